"""Detectron2's models behind this project's input and output."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from slotseg import get_cfg
from slotseg.classes import Category, ClassSet, set_class_metadata
from slotseg.errors import ConfigError, DatasetError
from slotseg.meta_arch.stock.segments import (
    add_confidence,
    from_class_and_instance,
    from_merged_ids,
)

SIZE = (64, 96)
CATEGORIES = [
    Category(7, "road", False, (90, 90, 90)),
    Category(26, "car", True, (0, 0, 250)),
    Category(23, "sky", False, (120, 190, 250)),
    Category(24, "person", True, (220, 20, 60)),
]
CLASSES = ClassSet(
    names=tuple(c.name for c in CATEGORIES),
    is_thing=tuple(c.is_thing for c in CATEGORIES),
    dataset_ids=tuple(c.id for c in CATEGORIES),
)
MODELS = ["panoptic_fpn", "panoptic_deeplab"]
# A ResNet-50 of a quarter of the width; GroupNorm wants multiples of 32 channels.
THIN = ["MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.WIDTH_PER_GROUP", 32]
THIN += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
TINY = {
    "panoptic_fpn": ["MODEL.FPN.OUT_CHANNELS", 32, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32]
    + ["MODEL.ROI_BOX_HEAD.FC_DIM", 64, "MODEL.ROI_MASK_HEAD.CONV_DIM", 32]
    + ["MODEL.RPN.POST_NMS_TOPK_TRAIN", 50, "MODEL.RPN.POST_NMS_TOPK_TEST", 20],
    "panoptic_deeplab": ["MODEL.SEM_SEG_HEAD.ASPP_DROPOUT", 0.0]
    + ["MODEL.INS_EMBED_HEAD.ASPP_DROPOUT", 0.0],
}
# Until every segment is found: the detector first has to learn what is no object.
STEPS = {"panoptic_fpn": 75, "panoptic_deeplab": 40}
SCRATCH = "configs/stock/base_{}_scratch.yaml"


@pytest.fixture(scope="module", autouse=True)
def _sets():
    set_class_metadata("stock_street", CATEGORIES)
    set_class_metadata("stock_things", [c for c in CATEGORIES if c.is_thing])
    set_class_metadata("stock_stuff", [c for c in CATEGORIES if not c.is_thing])


@pytest.fixture
def build(project_root):
    def build(name, dataset="stock_street", overrides=()):
        cfg = get_cfg(
            str(project_root / SCRATCH.format(name)),
            ["DATASETS.TRAIN", (dataset,), "MODEL.DEVICE", "cpu", *THIN, *TINY[name], *overrides],
        )
        return build_model(cfg)

    return build


def sample(segment_map, category, crowd=(), seed=0, is_thing=CLASSES.is_thing):
    """Each segment in a colour of its own, with noise."""
    generator = torch.Generator().manual_seed(seed)
    category = torch.tensor(category, dtype=torch.int64)
    is_crowd = torch.zeros(len(category), dtype=torch.bool)
    is_crowd[list(crowd)] = True
    colors = torch.tensor([c.color for c in CATEGORIES] + [(0, 0, 0)])
    shown = colors[torch.cat([category, category.new_tensor([-1])])[segment_map]].permute(2, 0, 1)
    noise = torch.randint(-15, 16, shown.shape, generator=generator)
    return {
        "file_name": f"{seed}.png",
        "image": (shown + noise).clamp(0, 255).to(torch.uint8),
        "segment_map": segment_map,
        "segment_category": category,
        "segment_is_object": torch.tensor(is_thing)[category] & ~is_crowd,
        "segment_is_crowd": is_crowd,
        "height": segment_map.shape[0],
        "width": segment_map.shape[1],
    }


def street():
    """Sky over road, a car and a person, a crowd of cars and void."""
    segment_map = torch.zeros(SIZE, dtype=torch.int64)
    segment_map[:24] = 1
    segment_map[30:54, 8:44] = 2
    segment_map[20:56, 56:74] = 3
    segment_map[30:40, 84:] = 4
    segment_map[56:, :8] = -1
    return sample(segment_map, [0, 2, 1, 3, 1], crowd=[4])


def everywhere(value, category, crowd=()):
    return sample(torch.full(SIZE, value, dtype=torch.int64), category, crowd)


def train_step(model, batch, amp=False):
    with EventStorage(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = model.train()(batch)
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: value.item() for name, value in losses.items()}


def predict(model, batch):
    with torch.no_grad():
        return model.eval()(batch)


def assert_contract(output, size, classes=CLASSES):
    ids, info = output["panoptic_seg"]
    assert ids.dtype == torch.int32 and tuple(ids.shape) == size
    assert {s["id"] for s in info} == set(ids.unique().tolist()) - {0}
    assert len({s["id"] for s in info}) == len(info)
    for segment in info:
        assert segment["isthing"] is classes.is_thing[segment["category_id"]]
        assert segment["area"] == (ids == segment["id"]).sum()
        assert 0.0 <= segment.get("score", 0.0) <= 1.0
    stuff = [s["category_id"] for s in info if not s["isthing"]]
    assert len(stuff) == len(set(stuff))


@pytest.mark.parametrize("name", MODELS)
def test_an_image_is_learnt_and_segmented(name, build):
    model = build(name)
    scene = street()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    first = train_step(model, [scene])
    for _ in range(STEPS[name]):
        optimizer.step()
        last = train_step(model, [scene])
    assert sum(last.values()) < 0.3 * sum(first.values())
    (output,) = predict(model, [scene])
    assert_contract(output, SIZE)
    ids, info = output["panoptic_seg"]
    for number, category in [(0, 0), (1, 2), (2, 1), (3, 3)]:
        true = scene["segment_map"] == number
        ious = [
            ((ids == s["id"]) & true).sum() / ((ids == s["id"]) | true).sum()
            for s in info
            if s["category_id"] == category
        ]
        assert max(ious) > 0.5, (number, info)
    if name == "panoptic_deeplab":
        assert output["sem_seg"].shape == (len(CLASSES), *SIZE)


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_finite_whatever_an_image_holds(name, amp, build):
    model = build(name)
    images = {
        "empty": everywhere(-1, []),
        "only stuff": everywhere(0, [0]),
        "only crowd": everywhere(0, [1], crowd=[0]),
        "one pixel": everywhere(-1, [3]),
    }
    images["one pixel"]["segment_map"][5, 7] = 0
    for what, image in images.items():
        losses = train_step(model, [image], amp)
        assert all(torch.isfinite(torch.tensor(v)) for v in losses.values()), (what, losses)
        finite = [torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None]
        assert finite and all(finite), what
    # Nor does a detector learn that there is nothing where nobody knows.
    assert not any(train_step(model, [images["empty"]], amp).values())


@pytest.mark.parametrize("name", MODELS)
def test_images_of_any_size_in_and_out(name, build):
    model = build(name)
    small, large = street(), street()
    small = sample(small["segment_map"][:50, :71], [0, 2, 1, 3, 1], crowd=[4])
    small["height"], small["width"] = 100, 40
    losses = train_step(model, [small, large])
    assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())
    outputs = predict(model, [small, large])
    assert_contract(outputs[0], (100, 40))
    assert_contract(outputs[1], SIZE)
    (unsized,) = predict(model, [{"image": small["image"]}])
    assert_contract(unsized, (50, 71))


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns_also_in_channels_last(name, build):
    model = build(name, overrides=["MODEL.CHANNELS_LAST", True])
    train_step(model, [street()])
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", MODELS)
def test_memory_order_does_not_change_the_losses(name, build):
    torch.manual_seed(1)
    plain = build(name)
    other = build(name, overrides=["MODEL.CHANNELS_LAST", True])
    other.load_state_dict(plain.state_dict())
    losses = []
    for model in (plain, other):
        torch.manual_seed(2)
        losses.append(train_step(model, [street()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_things_alone_are_enough(name, build):
    model = build(name, dataset="stock_things")
    segment_map = torch.full(SIZE, -1, dtype=torch.int64)
    segment_map[30:54, 8:44] = 0
    image = sample(segment_map, [1], is_thing=(True, True))
    losses = train_step(model, [image])
    assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())
    only = ClassSet(names=("car", "person"), is_thing=(True, True), dataset_ids=(26, 24))
    assert_contract(predict(model, [image])[0], SIZE, only)


@pytest.mark.parametrize("name", MODELS)
def test_stuff_alone_is_refused(name, build):
    with pytest.raises(ConfigError, match=r"stock_stuff has no thing classes"):
        build(name, dataset="stock_stuff")


@pytest.mark.parametrize("name", MODELS)
def test_a_config_without_a_training_set_is_refused(name, build):
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty"):
        build(name, overrides=["DATASETS.TRAIN", ()])


@pytest.mark.parametrize("name", MODELS)
def test_training_needs_panoptic_truth(name, build):
    scene = street()
    del scene["segment_category"]
    with pytest.raises(DatasetError, match=r"0\.png: has no segment_category"):
        train_step(build(name), [scene])


def test_the_numbers_of_classes_follow_the_set(build):
    wrong = ["MODEL.ROI_HEADS.NUM_CLASSES", 80, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 54]
    fpn = build("panoptic_fpn", overrides=[*wrong, "MODEL.MASK_ON", False])
    assert fpn.roi_heads.num_classes == 2 and fpn.roi_heads.mask_on
    assert fpn.sem_seg_head.predictor.out_channels == 3
    deeplab = build("panoptic_deeplab", overrides=wrong)
    assert deeplab.sem_seg_head.predictor.out_channels == 4


def test_raw_outputs_of_panoptic_fpn_are_detectron2s(build):
    model = build("panoptic_fpn").eval()
    with torch.no_grad():
        instances, stuff = model.inference([street()], do_postprocess=False)
    assert instances[0].has("pred_masks") and stuff.shape == (1, 3, *SIZE)


@pytest.mark.parametrize(("name", "classes"), [("panoptic_fpn", 3), ("panoptic_deeplab", 4)])
def test_models_tell_how_sure_they_are_on_request(name, classes, build):
    model = build(name)
    scene = street()
    plain, asked = predict(model, [scene, {**scene, "want_pixel_probs": True}])
    assert "pixel_probs" not in plain
    assert "confidence" not in {key for s in plain["panoptic_seg"][1] for key in s}
    probs = asked["pixel_probs"]
    # Panoptic FPN's semantic branch knows all things as one class.
    assert probs.shape == (classes, *SIZE) and probs.dtype == torch.float32
    assert torch.allclose(probs.sum(dim=0), torch.ones(SIZE), atol=1e-5)
    assert torch.equal(asked["panoptic_seg"][0], plain["panoptic_seg"][0])


def test_confidence_is_the_mean_of_the_segments_own_class():
    ids = torch.tensor([[1, 1, 2, 3]])
    segments = [
        {"id": 1, "category_id": 2},
        {"id": 2, "category_id": 1, "score": 0.9},
        {"id": 3, "category_id": 3},
    ]
    probs = torch.tensor([[[0.1, 0.2, 0.3, 0.4]], [[0.9, 0.8, 0.7, 0.6]]])
    _, told = add_confidence((ids, segments), probs, {2: 1, 1: 0})
    assert told[0]["confidence"] == pytest.approx(0.85)
    assert "confidence" not in told[1] and "confidence" not in told[2]


def test_merged_ids_become_contiguous_classes_with_areas():
    ids = torch.tensor([[1, 1, 3], [0, 4, 4]], dtype=torch.int32)
    info = [
        {"id": 1, "isthing": True, "category_id": 1, "score": 0.9, "instance_id": 5},
        {"id": 2, "isthing": True, "category_id": 0, "score": 0.8, "instance_id": 0},
        {"id": 3, "isthing": True, "category_id": 0, "score": 0.7, "instance_id": 2},
        {"id": 4, "isthing": False, "category_id": 2, "area": 2},
    ]
    same, found = from_merged_ids(ids, info, CLASSES)
    assert same is ids
    assert found == [
        {"id": 1, "category_id": 3, "isthing": True, "area": 2, "score": 0.9},
        {"id": 3, "category_id": 1, "isthing": True, "area": 1, "score": 0.7},
        {"id": 4, "category_id": 2, "isthing": False, "area": 2},
    ]


def test_classes_and_instances_become_segments():
    labels = torch.tensor([[101, -1, 0], [102, 102, 301]])
    ids, found = from_class_and_instance(labels, 100, CLASSES)
    assert ids.dtype == torch.int32
    assert ids.tolist() == [[2, 0, 1], [3, 3, 4]]
    assert found == [
        {"id": 1, "category_id": 0, "isthing": False, "area": 1},
        {"id": 2, "category_id": 1, "isthing": True, "area": 1},
        {"id": 3, "category_id": 1, "isthing": True, "area": 2},
        {"id": 4, "category_id": 3, "isthing": True, "area": 1},
    ]
    nothing, none = from_class_and_instance(torch.full((2, 2), -1), 100, CLASSES)
    assert not nothing.any() and none == []
