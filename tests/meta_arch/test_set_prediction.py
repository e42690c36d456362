"""The model with classes: earlier iterations, independent masks, points, and bad input."""

import logging

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.decoders import decode_iterations
from slotseg.errors import ConfigError, DatasetError

ROAD, CAR, SKY, BUS = range(4)
THINGS = (False, True, False, True)
ITERATIONS = 3
SLOTS = 6
SET = "test_set_prediction"

SIGMOID = ("MODEL.MASK_ACTIVATION", "sigmoid", "LOSSES.MASKS.PIXEL_LOSS", "bce")
KINDS = {
    "softmax": (),
    "sigmoid": SIGMOID,
    "softmax-points": ("LOSSES.MASKS.POINTS", 50),
    "sigmoid-points": (*SIGMOID, "LOSSES.MASKS.POINTS", 50),
}
GROUPINGS = {
    "gru": (),
    "mamba": ("MODEL.SLOTS.GROUPING.UPDATE", "mamba"),
    "bo-qsa": ("MODEL.SLOTS.GROUPING.BO_QSA", True),
    "nested": (
        "MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention",
        "MODEL.SLOTS.GROUPING.SUB_SLOTS", 2,
        "MODEL.SLOTS.NUM_SLOTS", SLOTS // 2,
    ),
}  # fmt: skip


def make_model(*overrides):
    set_class_metadata(
        SET, [Category(i, f"class {i}", thing, (0, 0, 0)) for i, thing in enumerate(THINGS)]
    )
    torch.manual_seed(0)
    options = [
        "MODEL.DEVICE", "cpu",
        "MODEL.SIMPLE_CNN.CHANNELS", [8, 8],
        "MODEL.SIMPLE_CNN.STRIDES", [2, 1],
        "MODEL.SLOTS.IN_FEATURE", "s2",
        "MODEL.SLOTS.NUM_SLOTS", SLOTS,
        "MODEL.SLOTS.DIM", 16,
        "MODEL.SLOTS.INITIALIZER.NAME", "LearnedInitializer",
        "MODEL.SLOTS.GROUPING.ITERATIONS", ITERATIONS,
        "MODEL.DECODERS", ["MaskProductDecoder"],
        "MODEL.MASK_PRODUCT.DIM", 8,
        "MODEL.HEAD.NAME", "PanopticHead",
        "DATASETS.TRAIN", (SET,),
        "LOSSES.RECONSTRUCTION.WEIGHT", 0.0,
        "LOSSES.MASKS.WEIGHT", 1.0,
        "LOSSES.MASKS.AUXILIARY_WEIGHT", 1.0,
    ]  # fmt: skip
    return build_model(get_cfg(overrides=[*options, *overrides]))


def make_image(segment_map, categories, crowd=()):
    segment_map = torch.as_tensor(segment_map)
    colours = torch.tensor([[40, 40, 40], [200, 30, 30], [30, 60, 220], [30, 200, 60]])
    return {
        "file_name": "a.png",
        "image": colours[segment_map.clamp_min(0) % 4].permute(2, 0, 1).byte(),
        "segment_map": segment_map,
        "segment_category": torch.tensor(categories, dtype=torch.int64),
        "segment_is_crowd": torch.tensor(
            [s in crowd for s in range(len(categories))], dtype=torch.bool
        ),
    }


def three_segments():
    segment_map = torch.zeros(16, 32, dtype=torch.int64)
    segment_map[:8] = 2
    segment_map[4:12, 6:16] = 1
    return segment_map


def street():
    return make_image(three_segments(), (ROAD, CAR, SKY))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("grouping", list(GROUPINGS))
def test_every_grouping_learns_from_all_iterations(grouping, kind):
    model = make_model(*GROUPINGS[grouping], *KINDS[kind])
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([street(), street()])
    names = ("class", "mask_pixel", "mask_dice")
    expected = {f"loss_{x}" for x in names} | {f"loss_auxiliary_{x}" for x in names}
    assert set(losses) == expected | {"loss_diversity"}
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    # Two earlier iterations of an untrained model cost about twice the last one.
    for name in names:
        ratio = losses[f"loss_auxiliary_{name}"] / losses[f"loss_{name}"]
        assert 1.2 < ratio < 3.5
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("grouping", list(GROUPINGS))
def test_one_pass_over_the_pixels_decodes_every_iteration(grouping):
    model = make_model(*GROUPINGS[grouping])
    passes = []
    model.decoders[0].register_forward_hook(lambda *args: passes.append(args))
    seen = model.look(model.preprocess([street()]), earlier=True)
    assert len(passes) == 1
    assert len(seen.earlier) == ITERATIONS - 1
    for slots, prediction in zip(seen.slots.earlier, seen.earlier, strict=True):
        alone = type(seen.slots)(slots, seen.slots.attention)
        decoded = model.decoders[0](alone, seen.features, seen.images)
        torch.testing.assert_close(prediction.mask_logits, decoded.mask_logits)
        torch.testing.assert_close(prediction.class_logits, model.head(alone))
    last = model.decoders[0](seen.slots, seen.features, seen.images).mask_logits
    torch.testing.assert_close(seen.prediction.mask_logits, last)


def test_a_decoder_that_mixes_slots_decodes_iterations_apart():
    model = make_model(
        "MODEL.DECODERS", ["SpatialBroadcastDecoder"],
        "MODEL.SPATIAL_BROADCAST.CHANNELS", [8],
        "MODEL.SPATIAL_BROADCAST.STRIDES", [2],
    )  # fmt: skip
    seen = model.look(model.preprocess([street()]))
    decoded, masks = decode_iterations(model.decoders[0], seen.slots, seen.features, seen.images)
    torch.testing.assert_close(decoded.reconstruction, seen.decoded[0].reconstruction)
    alone = type(seen.slots)(seen.slots.earlier[1], seen.slots.attention)
    expected = model.decoders[0](alone, seen.features, seen.images).mask_logits
    torch.testing.assert_close(masks[1], expected)


def test_earlier_iterations_are_decoded_only_where_they_are_learnt_from():
    passes = []
    for overrides, training, slots in (
        ((), True, SLOTS * ITERATIONS),
        ((), False, SLOTS),
        (("LOSSES.MASKS.AUXILIARY_WEIGHT", 0.0), True, SLOTS),
    ):
        model = make_model(*overrides).train(training)
        model.decoders[0].register_forward_hook(lambda *args: passes.append(args[1][0].slots))
        with torch.set_grad_enabled(training):
            model([street()])
        assert passes.pop().shape[1] == slots
        assert not passes


BAD_INPUT = {
    "no segments": make_image(torch.full((16, 32), -1), ()),
    "only void": make_image(torch.full((16, 32), -1), (ROAD, CAR)),
    "only stuff": make_image((three_segments() == 2).long(), (ROAD, SKY)),
    "only crowd": make_image(three_segments(), (ROAD, CAR, SKY), crowd=(0, 1, 2)),
    "crowd beside others": make_image(three_segments(), (ROAD, CAR, SKY), crowd=(1,)),
    "listed but absent": make_image(three_segments(), (ROAD, CAR, SKY, BUS)),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_odd_images_train_alone_and_in_company(case, kind):
    model = make_model(*KINDS[kind])
    nothing = case in ("no segments", "only void", "only crowd")
    for batch in ([BAD_INPUT[case]], [BAD_INPUT[case], street()]):
        losses = model(batch)
        supervised = {name: x for name, x in losses.items() if name != "loss_diversity"}
        assert all(loss.isfinite() for loss in losses.values())
        assert (sum(supervised.values()) == 0) == (nothing and len(batch) == 1)
        model.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        outputs = model.eval()([BAD_INPUT[case]])
    assert outputs[0]["panoptic_seg"][0].shape == (16, 32)


@pytest.mark.parametrize("kind", list(KINDS))
def test_more_segments_than_slots_are_told_once_with_the_count(kind, caplog):
    segment_map = torch.arange(8).repeat_interleave(4).expand(16, -1).contiguous()
    crowded = make_image(segment_map, (ROAD, CAR, SKY, CAR, CAR, BUS, BUS, CAR))
    model = make_model(*KINDS[kind])
    with caplog.at_level(logging.WARNING):
        losses = [sum(model([crowded, street()]).values()) for _ in range(2)]
    assert all(loss.isfinite() for loss in losses)
    told = [r.getMessage() for r in caplog.records if "MODEL.SLOTS.NUM_SLOTS" in r.getMessage()]
    assert len(told) == 1
    assert "a.png has 8 segments (background included) but there are 6 slots" in told[0]


def test_classes_absent_from_the_whole_set_are_never_found():
    """Nothing asks for a bus; the slots learn so."""
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        sum(model([street()]).values()).backward()
        optimizer.step()
    with torch.no_grad():
        _, info = model.eval()([street()])[0]["panoptic_seg"]
    assert info and BUS not in {segment["category_id"] for segment in info}


def test_a_class_that_the_model_lacks_names_file_and_both_numbers():
    with pytest.raises(DatasetError, match=r"a\.png: has class 7, but the model has 4 classes"):
        make_model()([make_image(three_segments(), (ROAD, 7, SKY))])


@pytest.mark.parametrize("kind", ["softmax", "sigmoid-points"])
def test_an_image_is_learnt_by_heart(kind):
    model = make_model(*KINDS[kind], "MODEL.HEAD.OUTPUTS", ["panoptic_seg", "sem_seg", "instances"])
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(50):
        optimizer.zero_grad()
        sum(model([street()]).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        output = model.eval()([{**street(), "height": 32, "width": 64}])[0]
    ids, info = output["panoptic_seg"]
    truth = three_segments().repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert {x["category_id"] for x in info} == {ROAD, CAR, SKY}
    class_of = torch.tensor([-1, *(x["category_id"] for x in info)])
    assert (class_of[ids.long()] == truth).float().mean() > 0.9
    assert (output["sem_seg"].argmax(dim=0) == truth).float().mean() > 0.9
    assert isinstance(output["instances"], Instances)
    assert output["instances"].pred_classes[0] == CAR
    overlap = (output["instances"].pred_masks[0] == (truth == CAR)).float().mean()
    assert overlap > 0.9


@torch.no_grad()
def test_independent_masks_are_sigmoids_also_without_a_head():
    model = make_model(*SIGMOID, "MODEL.HEAD.NAME", "").eval()
    seen = model.look(model.preprocess([street()]))
    output = model([street()])[0]
    logits = seen.decoded[0].mask_logits[0]
    torch.testing.assert_close(output["slot_masks"], logits.sigmoid())
    assert output["panoptic_seg"][0].shape == (16, 32)


def test_activations_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="MODEL.MASK_ACTIVATION: 'relu' is unknown"):
        make_model("MODEL.MASK_ACTIVATION", "relu")
    with pytest.raises(ConfigError, match="SpatialBroadcastDecoder mixes slots"):
        make_model(*SIGMOID, "MODEL.DECODERS", ["SpatialBroadcastDecoder"])
    with pytest.raises(ConfigError, match="choose 'bce'"):
        make_model("MODEL.MASK_ACTIVATION", "sigmoid")
