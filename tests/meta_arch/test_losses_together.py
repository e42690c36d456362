"""Every loss at once, on whole models."""

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata

ALL = [
    "MODEL.DEVICE", "cpu",
    "MODEL.BACKBONE.NAME", "build_lean_unet_backbone",
    "MODEL.UNET.CHANNELS", [8, 8],
    "MODEL.UNET.BLOCKS", [1, 1],
    "MODEL.SLOTS.IN_FEATURE", "s4",
    "MODEL.SLOTS.NUM_SLOTS", 4,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.DECODERS", ["MaskProductDecoder"],
    "MODEL.HEAD.NAME", "PanopticHead",
    "LOSSES.RECONSTRUCTION.WEIGHT", 0.0,
    "LOSSES.MASKS.WEIGHT", 1.0,
    "LOSSES.MASKS.PIXEL_LOSS", "bce",
    "LOSSES.MASKS.AUXILIARY_WEIGHT", 0.5,
    "LOSSES.CONTRASTIVE.WEIGHT", 0.1,
    "LOSSES.CONTRASTIVE.MIN_OVERLAP", 0.0,
    "LOSSES.CONSISTENCY.WEIGHT", 0.1,
    "LOSSES.CONSISTENCY.SCALES", [0.5, 2.0],
    "LOSSES.UNCERTAINTY.WEIGHT", 0.1,
    "LOSSES.UNCERTAINTY.THRESHOLD", 1.0,
    "LOSSES.WEIGHTING.NAME", "uncertainty",
]  # fmt: skip
NAMES = {
    "loss_mask_pixel", "loss_mask_dice", "loss_class", "loss_auxiliary_mask_pixel",
    "loss_auxiliary_mask_dice", "loss_auxiliary_class", "loss_contrastive", "loss_consistency",
    "loss_consistency_class", "loss_uncertainty", "loss_diversity", "loss_weighting",
}  # fmt: skip
NESTED = ["MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention", "MODEL.SLOTS.GROUPING.SUB_SLOTS", 2]
MAMBA = ["MODEL.SLOTS.GROUPING.UPDATE", "mamba"]
LEARNED = ["MODEL.SLOTS.INITIALIZER.NAME", "LearnedInitializer"]
SPECTRAL = ["MODEL.SLOTS.INITIALIZER.NAME", "SpectralInitializer"]
SIGMOID = ["MODEL.MASK_ACTIVATION", "sigmoid"]


def make_model(*overrides):
    names = [("road", False), ("car", True), ("sky", False)]
    classes = [Category(i, name, thing, (0, 0, 0)) for i, (name, thing) in enumerate(names)]
    set_class_metadata("test_losses_together", classes)
    return build_model(
        get_cfg(overrides=[*ALL, "DATASETS.TRAIN", ("test_losses_together",), *overrides])
    )


def make_batch(size=(32, 48), void=False):
    generator = torch.Generator().manual_seed(1)
    segment_map = torch.zeros(size, dtype=torch.int64)
    segment_map[size[0] // 2 :] = 1
    segment_map[4:12, 6:14] = 2
    return [
        {
            "file_name": f"{number}.png",
            "image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8),
            "segment_map": torch.full_like(segment_map, -1) if void else segment_map,
            "segment_category": torch.tensor([2, 0, 1]),
            "segment_is_crowd": torch.zeros(3, dtype=torch.bool),
        }
        for number in range(2)
    ]


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [[], [*SIGMOID, *LEARNED], NESTED, [*MAMBA, *SPECTRAL, *SIGMOID]],
    ids=["softmax", "sigmoid-learned", "nested", "sigmoid-mamba-spectral"],
)
def test_one_step_with_every_loss(options, amp):
    model = make_model(*options)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = model(make_batch())
    assert set(losses) == NAMES
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {"backbone", "grouping", "decoders", "head", "losses", "weighting"} <= reached


def test_a_void_batch_is_asked_nothing_about_the_truth():
    losses = make_model("LOSSES.WEIGHTING.NAME", "fixed")(make_batch(void=True))
    sum(losses.values()).backward()
    truth = [name for name in losses if "mask" in name or "uncertainty" in name]
    assert truth
    assert all(losses[name].item() == 0.0 for name in truth)


def test_losses_that_share_a_view_share_its_pass():
    model = make_model(
        "LOSSES.CONTRASTIVE.FLIP", False, "LOSSES.CONTRASTIVE.SCALE", 0.5,
        "LOSSES.CONSISTENCY.SCALES", [0.5],
    )  # fmt: skip
    assert len(model.views) == 1
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    model(make_batch())
    assert seen == [(32, 48), (16, 24)]


def test_training_lowers_losses_that_start_high():
    torch.manual_seed(0)
    model = make_model(
        *LEARNED, "LOSSES.WEIGHTING.NAME", "fixed", "LOSSES.CONSISTENCY.SCALES", [0.5],
        "LOSSES.MASKS.AUXILIARY_WEIGHT", 0.0, "LOSSES.CONTRASTIVE.TEMPERATURE", 0.5,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    history = []
    for _ in range(15):
        losses = model(make_batch())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in ("loss_contrastive", "loss_uncertainty"):
        assert history[-1][name] < 0.6 * history[0][name], name
