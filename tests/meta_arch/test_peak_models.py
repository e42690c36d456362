"""Whole models whose slots start at the peaks of a map of things."""

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.errors import ConfigError

ROAD, CAR = 0, 1
SLOTS, PEAKS = 6, 4
SET = "test_peak_models"
NESTED = ["MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention", "MODEL.SLOTS.GROUPING.SUB_SLOTS", 3]
AUXILIARY = ["LOSSES.MASKS.AUXILIARY_WEIGHT", 1.0]
FULL = ["MODEL.UNET.FULL_CHANNELS", 8, "MODEL.MASK_PRODUCT.IN_FEATURE", "s1"]
STEP = ["MODEL.MASK_PRODUCT.TRAIN_STEP", 4]
SIGMOID = ["MODEL.MASK_ACTIVATION", "sigmoid", "LOSSES.MASKS.PIXEL_LOSS", "bce"]
MODELS = {
    "plain": [],
    "every slot at a peak": ["MODEL.SLOTS.PEAKS.NUM", SLOTS],
    "finer peaks": ["MODEL.SLOTS.PEAKS.IN_FEATURE", "s2"],
    "nested, all iterations": [*NESTED, *AUXILIARY],
    "some pixels of full-size masks, all iterations": [*FULL, *STEP, *AUXILIARY],
    "independent masks at points": [*SIGMOID, "LOSSES.MASKS.POINTS", 30],
}


def make_model(*overrides):
    names = [("road", False), ("car", True)]
    set_class_metadata(SET, [Category(i, *name, (0, 0, 0)) for i, name in enumerate(names)])
    torch.manual_seed(0)
    options = [
        "MODEL.DEVICE", "cpu",
        "MODEL.BACKBONE.NAME", "build_lean_unet_backbone",
        "MODEL.UNET.CHANNELS", [8, 8],
        "MODEL.UNET.BLOCKS", [1, 1],
        "MODEL.SLOTS.IN_FEATURE", "s4",
        "MODEL.SLOTS.NUM_SLOTS", SLOTS,
        "MODEL.SLOTS.DIM", 16,
        "MODEL.SLOTS.INITIALIZER.NAME", "PeakInitializer",
        "MODEL.SLOTS.PEAKS.NUM", PEAKS,
        "MODEL.SLOTS.PEAKS.CHANNELS", 8,
        "MODEL.DECODERS", ["MaskProductDecoder"],
        "MODEL.MASK_PRODUCT.IN_FEATURE", "s2",
        "MODEL.HEAD.NAME", "PanopticHead",
        "DATASETS.TRAIN", (SET,),
        "LOSSES.RECONSTRUCTION.WEIGHT", 0.0,
        "LOSSES.MASKS.WEIGHT", 1.0,
        "LOSSES.MASKS.ATTENTION_WEIGHT", 1.0,
        "LOSSES.OBJECTNESS.WEIGHT", 0.5,
        "LOSSES.CLASS_MAP.WEIGHT", 1.0,
    ]  # fmt: skip
    return build_model(get_cfg(overrides=[*options, *overrides]))


def make_image(segment_map, categories=(ROAD, CAR, CAR), crowd=()):
    generator = torch.Generator().manual_seed(1)
    return {
        "file_name": "a.png",
        "image": torch.randint(
            0, 256, (3, *segment_map.shape), generator=generator, dtype=torch.uint8
        ),
        "segment_map": segment_map,
        "segment_category": torch.tensor(categories, dtype=torch.int64),
        "segment_is_crowd": torch.tensor([s in crowd for s in range(len(categories))]).bool(),
    }


def street(height=32, width=48):
    segment_map = torch.zeros(height, width, dtype=torch.int64)
    segment_map[4:12, 6:14] = 1
    segment_map[20:26, 30:38] = 2
    return segment_map


IMAGES = {
    "street": make_image(street()),
    # Its sides are no multiples of any stride.
    "odd size": make_image(street(33, 47)),
    "only void": make_image(torch.full((32, 48), -1)),
    "no segments": make_image(torch.full((32, 48), -1), ()),
    "only stuff": make_image(street() * 0),
    "crowd": make_image(street(), crowd=(1,)),
    "more things than slots": make_image(
        torch.arange(12).repeat_interleave(4).repeat(32, 1), (ROAD, *[CAR] * 11)
    ),
}


@pytest.mark.parametrize("image", list(IMAGES))
@pytest.mark.parametrize("kind", list(MODELS))
def test_every_model_learns_from_every_image(kind, image):
    model = make_model(*MODELS[kind])
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([IMAGES[image], IMAGES[image]])
    assert {"loss_objectness", "loss_class_map", "loss_mask_pixel", "loss_class"} <= set(losses)
    assert all(x.dtype == torch.float32 and x.isfinite() for x in losses.values())
    sum(losses.values()).backward()
    # Nothing is there that no loss reaches, whatever the image.
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_sub_slots_have_their_parents_place():
    model = make_model(*NESTED)
    seen = model.look(model.preprocess([IMAGES["street"]]))
    assert seen.slots.places.shape == (1, 3 * SLOTS, 2)
    torch.testing.assert_close(
        seen.slots.places, seen.initial.places[:, seen.slots.parents.of], equal_nan=True
    )


@pytest.mark.parametrize("kind", ["plain", "nested, all iterations"])
def test_a_model_learns_an_image_by_heart(kind):
    model = make_model(*MODELS[kind])
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model([IMAGES["street"]]).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        output = model.eval()([IMAGES["street"]])[0]
        places = model.look(model.preprocess([IMAGES["street"]])).initial.places[0, :2]
    ids, info = output["panoptic_seg"]
    assert sorted(x["category_id"] for x in info) == [ROAD, CAR, CAR]
    for segment in (1, 2):
        inside = street() == segment
        found = ids[inside].mode().values
        assert ((ids == found) & inside).sum() / ((ids == found) | inside).sum() > 0.6
    # The two best peaks are on the two cars.
    row, column = (places * torch.tensor([32, 48])).long().unbind(1)
    assert sorted(street()[row, column].tolist()) == [1, 2]


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("CONTRASTIVE", []),
        ("CONSISTENCY", []),
        ("UNCERTAINTY", ["LOSSES.UNCERTAINTY.MEASURE", "view_variance"]),
    ],
    ids=["contrastive", "consistency", "uncertainty"],
)
def test_views_are_not_compared_at_pixels_that_differ(loss, options):
    weight = [f"LOSSES.{loss}.WEIGHT", 0.1, *options]
    with pytest.raises(ConfigError, match=rf"LOSSES\.{loss} compares .*TRAIN_STEP leaves pixels"):
        make_model(*STEP, *weight)
    make_model(*weight)
