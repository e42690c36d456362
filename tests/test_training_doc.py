"""What docs/training.md says about the shipped configs is so."""

import math
import re
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from slotseg import get_cfg

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "training.md").read_text()
SETS = ("cityscapes", "kitti", "bdd100k", "clevr")
MODELS = sorted(set(re.findall(r"\bslot_\w+_fpn(?:_generated)?\.yaml", TEXT)))


def config(name, *overrides):
    return get_cfg(str(ROOT / "configs" / name), overrides)


def options(heading):
    """The options of a paragraph that begins with a heading in bold."""
    block = re.search(rf"\*\*{heading}\*\*.*?```\n(.*?)```", TEXT, flags=re.S)
    return block[1].split()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dataset", SETS)
def test_every_set_has_every_model(dataset, name):
    cfg = config(f"{dataset}/{name}")
    assert cfg.MODEL.META_ARCHITECTURE == "SlotSeg"
    assert all(("generated" in set_name) == ("generated" in name) for set_name in cfg.DATASETS.TEST)


def test_models_are_named():
    assert {"slot_r50_fpn.yaml", "slot_dinov2_l_fpn.yaml"} < set(MODELS)


@pytest.mark.parametrize(
    ("dataset", "images", "row"),
    [
        ("cityscapes", 2975, "Cityscapes, 2 975"),
        ("bdd100k", 7000, "BDD100K, 7 000"),
        ("kitti", 855, "KITTI (Freiburg labels), 855"),
        ("clevr", 70000, "CLEVR, 70 000"),
    ],
)
def test_the_schedules_are_the_configs(dataset, images, row):
    (line,) = [x for x in TEXT.splitlines() if x.startswith(f"| {row} images |")]
    batch, iterations, passes = (
        int(cell.replace(" ", "")) for cell in line.strip("| ").split("|")[-3:]
    )
    for name in MODELS:
        if "generated" in name:
            continue
        solver = config(f"{dataset}/{name}").SOLVER
        assert (batch, iterations) == (solver.IMS_PER_BATCH, solver.MAX_ITER)
        assert (solver.BASE_LR, solver.LR_SCHEDULER_NAME) == (1e-4, "WarmupPolyLR")
    assert passes == round(batch * iterations / images)


@pytest.mark.parametrize(
    ("heading", "with_attention"),
    [("Independent masks", False), ("Slots that start at things", True)],
    ids=["independent masks", "peaks"],
)
def test_other_options_train(heading, with_attention):
    torch.manual_seed(0)
    overrides = [*options(heading), "MODEL.DEVICE", "cpu", "LOSSES.MASKS.POINTS", 32]
    cfg = config("cityscapes/slot_r18_fpn_generated.yaml", *overrides)
    assert cfg.dump() != config("cityscapes/slot_r18_fpn_generated.yaml", *overrides[-4:]).dump()
    segments = torch.zeros(64, 64, dtype=torch.int64)
    segments[:32, :32] = 1
    item = {
        "image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8),
        "segment_map": segments,
        "segment_category": torch.tensor([0, 11]),
        "segment_is_crowd": torch.tensor([False, False]),
    }
    model = build_model(cfg).train()
    with EventStorage():
        losses = model([item])
    assert any("auxiliary" in name for name in losses)
    assert any("attention" in name for name in losses) is with_attention
    assert all(math.isfinite(value.detach()) for value in losses.values())
