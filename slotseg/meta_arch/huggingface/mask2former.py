"""Mask2Former with this project's input and output."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from slotseg.meta_arch.huggingface.query_model import HFQueryModel, LayerPrediction
from slotseg.meta_arch.huggingface.saved import check_loaded, read_saved

_BACKBONE = "MODEL.HUGGINGFACE.BACKBONE"


@META_ARCH_REGISTRY.register()
class HFMask2Former(HFQueryModel):
    """Mask2Former (Cheng et al., "Masked-attention Mask Transformer for Universal Image
    Segmentation", CVPR 2022), in the implementation of the `transformers` library.

    Args:
        **shared: see :class:`HFQueryModel`.
    """

    model_type = "mask2former"
    # The coarsest of the published backbones' feature maps.
    size_divisibility = 32

    @configurable
    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        # Swin's last normalisation is for classification: no feature map goes through it, and
        # distributed training wants a gradient for every weight that can have one.
        swin = getattr(self.network.model.pixel_level_module.encoder, "swin", None)
        if swin is not None:
            swin.layernorm.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """As :meth:`HFQueryModel.from_config`, for a new network with a trained backbone.

        Raises:
            CheckpointError: ``MODEL.HUGGINGFACE.BACKBONE`` cannot be read or does not fit.
        """
        arguments = super().from_config(cfg)
        options = cfg.MODEL.HUGGINGFACE
        if options.BACKBONE and not options.PRETRAINED:
            _load_backbone(arguments["network"], options.BACKBONE)
        return arguments

    def predict_layers(self, pixels: Tensor) -> list[LayerPrediction]:
        """Every decoder layer predicts, and one prediction comes before them."""
        output = self.network(pixels, output_auxiliary_logits=True)
        earlier = output.auxiliary_logits if self.network.config.use_auxiliary_loss else []
        return [
            *((p["class_queries_logits"], p["masks_queries_logits"]) for p in earlier),
            (output.class_queries_logits, output.masks_queries_logits),
        ]


def _load_backbone(network: nn.Module, source: str) -> None:
    """Weights of an image classifier or another model with the same backbone."""
    encoder = network.model.pixel_level_module.encoder
    trained, report = read_saved(
        type(encoder),
        source,
        _BACKBONE,
        config=encoder.config,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
    )
    check_loaded(trained, report, source, _BACKBONE)
    encoder.load_state_dict(trained.state_dict())
