"""EoMT with this project's input and output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from slotseg.meta_arch.huggingface.positions import GridPositions
from slotseg.meta_arch.huggingface.query_model import HFQueryModel, LayerPrediction


@META_ARCH_REGISTRY.register()
class HFEoMT(HFQueryModel):
    """EoMT (Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025), in the
    implementation of the `transformers` library.

    The library's network takes square images of one size. Here any size will do: the position
    embeddings, which keep their saved shape, are resampled to the grid of patches at hand.

    Args:
        annealing_steps: iterations of the training over which the masks in the attention are
            switched off, see :func:`attention_mask_probability`; 0 keeps them on.
        **shared: see :class:`HFQueryModel`.
    """

    model_type = "eomt"

    @configurable
    def __init__(self, *, annealing_steps: int, **shared: Any) -> None:
        super().__init__(**shared)
        self.annealing_steps = annealing_steps
        self.size_divisibility = self.network.config.patch_size
        embeddings = self.network.embeddings
        embeddings.position_embeddings = GridPositions(
            embeddings.position_embeddings.weight, self.network.grid_size
        )
        if annealing_steps:
            # Saved with the weights, so that a resumed training goes on where it was.
            self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """As :meth:`HFQueryModel.from_config`, with the length of the training."""
        steps = cfg.SOLVER.MAX_ITER if cfg.MODEL.HUGGINGFACE.MASK_ANNEALING else 0
        return {**super().from_config(cfg), "annealing_steps": steps}

    def predict_layers(self, pixels: Tensor) -> list[LayerPrediction]:
        """The last blocks predict before they attend, and the last one afterwards as well."""
        if self.training and self.annealing_steps:
            self._anneal()
        patch = self.size_divisibility
        grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
        self.network.grid_size = grid
        self.network.embeddings.position_embeddings.grid = grid
        with _recorded_predictions(self.network) as layers:
            self.network(pixels)
        return layers

    def _anneal(self) -> None:
        blocks = self.network.config.num_blocks
        progress = self.iteration / self.annealing_steps
        self.network.attn_mask_probs.copy_(attention_mask_probability(progress, blocks))
        self.iteration += 1


def attention_mask_probability(progress: Tensor, blocks: int) -> Tensor:
    """How often each of the last blocks keeps its queries' attention inside their masks.

    One block after the other goes from always to never, so that inference needs no masks in the
    attention and is faster; each falls as a polynomial of power 0.9, as in the published training.
    Its steps are spread evenly here: block b of n starts at (b + 1) / (n + 2) of the training and
    is done after another 1 / (n + 2) of it.

    Args:
        progress: scalar, the share of the training that is done, in 0..1.
        blocks: n.

    Returns:
        ``[n]`` float32 in 0..1.
    """
    starts = torch.arange(1, blocks + 1, device=progress.device)
    done = (progress * (blocks + 2) - starts).clamp(0.0, 1.0)
    return (1.0 - done).pow(0.9)


@contextmanager
def _recorded_predictions(network: nn.Module) -> Iterator[list[LayerPrediction]]:
    """Collect what every layer predicts: the network returns the last prediction only, and
    computes losses for the others inside of its forward, where autocast is still on."""
    recorded: list[LayerPrediction] = []
    predict = network.predict

    def recording(hidden: Tensor) -> tuple[Tensor, Tensor]:
        masks, classes = predict(hidden)
        recorded.append((classes, masks))
        return masks, classes

    network.predict = recording
    try:
        yield recorded
    finally:
        del network.predict
