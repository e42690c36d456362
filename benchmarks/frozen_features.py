"""What the maps of a frozen ViT say about scenes, beside those of the same ViT with random weights
and beside the pixels themselves.

Over patches that lie in one object (or in the background) almost wholly:

* linear probes, ridge regression on one-hot labels, fitted on one half of the images and scored on
  the other: is it an object, and which material, colour, shape and size;
* the area under the ROC curve of the cosine similarity of two patches of an image, centred over the
  image, as a test of whether they belong to the same object: what slots need.

``--picture`` writes the first three principal components over all images as colours. Needs scenes
with listed objects, such as ``clevr_generated_tune``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import numpy as np  # isort: skip
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from slotseg import get_cfg
from slotseg.data import build_mapper, dataset_images
from slotseg.engine.rng import seed_all
from slotseg.ops.patches import to_patches

# Share of a patch's pixels that its object must have.
PURE = 0.7
RIDGE = 1.0
LABELS = ("material", "color", "shape", "size")
BATCH = 32


def load(cfg: CfgNode, count: int) -> tuple[Tensor, Tensor, list[list[dict]]]:
    """Images ``[N, 3, H, W]`` uint8, segments ``[N, H, W]`` and the objects of every scene."""
    dataset = cfg.DATASETS.TEST[0]
    mapper = build_mapper(cfg, False, [dataset])
    dicts = dataset_images(cfg, dataset)[:count]
    mapped = [mapper(entry) for entry in dicts]
    images = torch.stack([x["image"] for x in mapped])
    return images, torch.stack([x["segment_map"] for x in mapped]), [x["objects"] for x in dicts]


def owners(segments: Tensor, grid: tuple[int, int]) -> Tensor:
    """The segment of every patch ``[N, h * w]``, -1 where it has no clear one."""
    size = (segments.shape[1] // grid[0], segments.shape[2] // grid[1])
    one_hot = F.one_hot(segments.clamp(min=0)).permute(0, 3, 1, 2).float()
    share, winner = F.avg_pool2d(one_hot, size).flatten(2).max(dim=1)
    return winner.masked_fill(share < PURE, -1)


def vit_tokens(cfg: CfgNode, images: Tensor, map_name: str) -> Tensor:
    """``[N, h * w, C]`` of the backbone that the config describes."""
    seed_all(0)
    backbone = build_backbone(cfg).eval()
    mean, std = (
        torch.tensor(v).view(-1, 1, 1) for v in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    )
    with torch.no_grad():
        maps = [backbone((batch - mean) / std)[map_name] for batch in images.split(BATCH)]
    return torch.cat(maps).flatten(2).transpose(1, 2)


def probe(features: Tensor, labels: Tensor, in_training: Tensor) -> float:
    """Share of the held-out patches whose label a linear map tells."""
    mean, std = features[in_training].mean(0), features[in_training].std(0) + 1e-6
    inputs = F.pad((features - mean) / std, (0, 1), value=1.0).double()
    targets = F.one_hot(labels).double()
    x, y = inputs[in_training], targets[in_training]
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
    found = (inputs[~in_training] @ weights).argmax(1)
    return (found == labels[~in_training]).double().mean().item()


def same_object_auc(features: Tensor, owner: Tensor) -> float:
    """Mean over images of the area under the ROC curve; 0.5 is chance."""
    areas = []
    for tokens, own in zip(features, owner, strict=True):
        chosen = own > 0
        unit = F.normalize(tokens - tokens.mean(0), dim=1)[chosen]
        upper = torch.ones(len(unit), len(unit), dtype=torch.bool).triu(1)
        similarity = (unit @ unit.T)[upper]
        same = (own[chosen][:, None] == own[chosen][None])[upper]
        positive, negative = int(same.sum()), int((~same).sum())
        if positive and negative:
            # Mann and Whitney: the ranks of the pairs of one object among all pairs.
            ranks = similarity.argsort().argsort()[same].double() + 1
            area = (ranks.sum() - positive * (positive + 1) / 2) / (positive * negative)
            areas.append(area.item())
    return float(np.mean(areas))


def measure(features: Tensor, owner: Tensor, objects: list[list[dict]]) -> dict[str, float]:
    """All figures of one kind of features."""
    half = torch.arange(len(features))[:, None].expand_as(owner) < len(features) // 2
    clear = owner >= 0
    row = {"object": probe(features[clear], (owner[clear] > 0).long(), half[clear])}
    inside = owner > 0
    for label in LABELS:
        names = sorted({entry[label] for scene in objects for entry in scene})
        table = [[0] + [names.index(entry[label]) for entry in scene] for scene in objects]
        values = torch.tensor(
            [table[i][j] for i, own in enumerate(owner.tolist()) for j in own if j > 0]
        )
        row[label] = probe(features[inside], values, half[inside])
    return row | {"same object": same_object_auc(features, owner)}


def draw(features: Tensor, images: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Images above, their three principal components below, uint8 ``[2 H, n W, 3]``."""
    flat = features.flatten(0, 1) - features.mean((0, 1))
    _, _, directions = torch.pca_lowrank(flat, 3, center=False, niter=8)
    parts = features[: len(images)] @ directions - features.mean((0, 1)) @ directions
    low, high = (torch.quantile(parts.flatten(0, 1), q, dim=0) for q in (0.02, 0.98))
    colors = ((parts - low) / (high - low)).clamp(0, 1).transpose(1, 2).unflatten(2, grid) * 255
    colors = F.interpolate(colors, images.shape[-2:], mode="nearest")
    sheet = torch.cat([torch.cat([*images.float()], 2), torch.cat([*colors], 2)], 1)
    return sheet.byte().permute(1, 2, 0).numpy()


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="configs/clevr/ladder/1_dinov2.yaml")
    parser.add_argument("--dataset", default="clevr_generated_tune", help="(%(default)s)")
    parser.add_argument("--images", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--picture", metavar="PNG", help="file for the principal components")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="options of the config: KEY VALUE ..."
    )
    args = parser.parse_args()
    cfg = get_cfg(
        args.config_file, ["DATASETS.TEST", (args.dataset,), "MODEL.VIT.KEYS", True, *args.opts]
    )
    random = get_cfg(
        args.config_file, ["MODEL.VIT.KEYS", True, *args.opts, "MODEL.VIT.WEIGHTS", ""]
    )
    images, segments, objects = load(cfg, args.images)
    backbone = build_backbone(random)
    grid, name = backbone.grid(*images.shape[-2:]), backbone.map_name
    size = (images.shape[2] // grid[0], images.shape[3] // grid[1])
    owner = owners(segments, grid)
    kinds: dict[str, Callable[[], Tensor]] = {
        "pixels": lambda: to_patches(images.float() / 255, size),
        "random ViT": lambda: vit_tokens(random, images, name),
        "random ViT, keys": lambda: vit_tokens(random, images, "keys"),
        "this ViT": lambda: vit_tokens(cfg, images, name),
        "this ViT, keys": lambda: vit_tokens(cfg, images, "keys"),
    }
    rows = {kind: measure(features(), owner, objects) for kind, features in kinds.items()}
    print(f"{cfg.MODEL.VIT.WEIGHTS or 'random weights'}, {len(images)} images of {args.dataset}\n")
    table = [{"features": kind, **row} for kind, row in rows.items()]
    print(tabulate(table, headers="keys", floatfmt=".3f", tablefmt="github"))
    print(json.dumps(rows))
    if args.picture:
        Image.fromarray(draw(kinds["this ViT"](), images[:8], grid)).save(args.picture)


if __name__ == "__main__":
    main()
