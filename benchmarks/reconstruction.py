"""How well a model gives images back: decibel (peak signal-to-noise ratio) of its reconstructions.

Of any model that makes some: a ``LatentAutoencoder`` or a ``MaskedAutoencoder``, or a ``SlotSeg``
whose last reconstructing decoder is scored. Every image is scored by itself, at the size of the
model's input; printed are mean, least and largest.

python benchmarks/reconstruction.py --config-file configs/clevr/pretrain/autoencoder.yaml \
    MODEL.WEIGHTS output/clevr_autoencoder/model_final.pth
"""

from __future__ import annotations

import argparse
import json
from itertools import islice

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.modeling import build_model
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.data import build_test_loader
from slotseg.engine import load_weights
from slotseg.engine.cli import user_errors
from slotseg.engine.inference import inference_mode
from slotseg.engine.rng import seed_all
from slotseg.errors import ConfigError


def decibel(made: torch.Tensor, image: torch.Tensor) -> float:
    """Of a picture ``[3, H, W]`` in 0..255 that should be the image."""
    error = (made.double().cpu() - image.double()).square().mean().clamp_min(1e-12)
    return float(10.0 * (255.0**2 / error).log10())


def main() -> None:
    """Print one line of figures, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--dataset", default="clevr_generated_tune", help="(default CLEVR, tune)")
    parser.add_argument("--images", type=int, default=64, help="of it, from the first (default 64)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ..., MODEL.WEIGHTS above")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with user_errors():
        # Few images at once: pictures of decoders that draw in several steps take memory.
        options = ["DATALOADER.NUM_WORKERS", 0, "TEST.IMS_PER_BATCH", min(args.images, 8)]
        cfg = get_cfg(args.config_file, [*options, *args.opts])
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("MODEL.WEIGHTS: is empty; give a checkpoint of this config's model")
        seed_all(0)
        model = build_model(cfg)
        load_weights(model, cfg.MODEL.WEIGHTS, trust_pickle=cfg.MODEL.TRUST_PICKLE)
        scores: list[float] = []
        batches = -(-args.images // cfg.TEST.IMS_PER_BATCH)
        loader = islice(build_test_loader(cfg, args.dataset), batches)
        with inference_mode(model):
            for batch in tqdm(loader, total=batches, desc="reconstructing", disable=None):
                outputs = model(batch)
                if "reconstruction" not in outputs[0]:
                    raise ConfigError(
                        f"{args.config_file}: its model makes no picture; MODEL.DECODERS of a "
                        "SlotSeg needs one that does, such as SpatialBroadcastDecoder"
                    )
                scores += [
                    decibel(output["reconstruction"], item["image"])
                    for output, item in zip(outputs, batch, strict=True)
                ]
    scores = scores[: args.images]
    record = {
        "dataset": args.dataset,
        "images": len(scores),
        "mean_db": sum(scores) / len(scores),
        "least_db": min(scores),
        "largest_db": max(scores),
    }
    print(
        f"{record['images']} images of {args.dataset}: {record['mean_db']:.1f} dB "
        f"({record['least_db']:.1f} to {record['largest_db']:.1f})"
    )
    print(json.dumps(record))


if __name__ == "__main__":
    main()
