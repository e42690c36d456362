"""Every shipped config is built, trained for one step and asked for one prediction."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.engine.trainer import Trainer

ROOT = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(path for path in ROOT.rglob("*.yaml") if not path.name.startswith("base"))


def make_batch(cfg, images=2):
    height, width = cfg.INPUT.IMAGE_SIZE
    generator = torch.Generator().manual_seed(0)
    batch = []
    for i in range(images):
        segment_map = torch.zeros(height, width, dtype=torch.int64)
        segment_map[: height // 2, : width // 2] = 1
        segment_map[height // 2 :, width // 3 :] = 2
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        batch.append({"file_name": f"{i}.png", "image": image, "segment_map": segment_map})
    return batch


def test_there_are_configs():
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_training_step_and_one_inference(path):
    torch.manual_seed(0)
    cfg = get_cfg(str(path), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    before = [p.detach().clone() for p in model.parameters()]
    batch = make_batch(cfg)
    with torch.autocast("cpu", torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED):
        losses = model.train()(batch)
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(changed)
    with torch.no_grad():
        output = model.eval()(batch)[0]
    segments, info = output["panoptic_seg"]
    assert segments.shape == tuple(cfg.INPUT.IMAGE_SIZE)
    assert sum(x["area"] for x in info) == segments.numel()
