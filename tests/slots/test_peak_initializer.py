"""Slots that start at the peaks of a map."""

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec

from slotseg import get_cfg
from slotseg.errors import ConfigError
from slotseg.slots import PeakInitializer, Tokens, build_slot_initializer

DIM, CHANNELS = 16, 8
SHAPES = {
    "s1": ShapeSpec(channels=CHANNELS, stride=1),
    "fine": ShapeSpec(channels=3, stride=1),
}


@pytest.fixture(scope="module", autouse=True)
def classes():
    name = "classes_for_peaks"
    meta = MetadataCatalog.get(name)
    meta.set(
        thing_classes=["road", "car"],
        stuff_classes=["road", "car"],
        thing_dataset_id_to_contiguous_id={2: 1},
        stuff_dataset_id_to_contiguous_id={1: 0},
    )
    yield name
    MetadataCatalog.remove(name)


def build(slots=6, peaks=4, head="PanopticHead", in_feature="", channels=8) -> PeakInitializer:
    torch.manual_seed(0)
    overrides = ["DATASETS.TRAIN", ("classes_for_peaks",), "MODEL.HEAD.NAME", head]
    overrides += ["MODEL.SLOTS.NUM_SLOTS", slots, "MODEL.SLOTS.DIM", DIM]
    overrides += ["MODEL.SLOTS.PEAKS.NUM", peaks, "MODEL.SLOTS.PEAKS.CHANNELS", channels]
    overrides += ["MODEL.SLOTS.PEAKS.IN_FEATURE", in_feature]
    overrides += ["MODEL.SLOTS.INITIALIZER.NAME", "PeakInitializer"]
    return build_slot_initializer(get_cfg(overrides=overrides), SHAPES)


def start(module, height=6, width=8, batch=2):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, CHANNELS, height, width, generator=generator)
    values = torch.randn(batch, height * width, DIM, generator=generator, requires_grad=True)
    return module(Tokens(values, (height, width)), {"s1": features}, None), values


def test_the_first_slots_start_where_the_map_is_highest():
    initial, _ = start(build())
    assert initial.slots.shape == (2, 6, DIM)
    assert initial.seeded.tolist() == [4, 4]
    best = initial.guess.objectness.flatten(1).argmax(dim=1)
    row, column = (initial.places[:, 0] * torch.tensor([6, 8])).long().unbind(1)
    assert (row * 8 + column).tolist() == best.tolist()
    assert initial.places[:, 4:].isnan().all()
    assert ((initial.places[:, :4] > 0) & (initial.places[:, :4] < 1)).all()
    assert initial.guess.class_logits.shape == (2, 2, 6, 8)


def test_a_seed_is_made_of_its_pixel_and_learnt_slots_of_none():
    initial, values = start(build())
    (seed,) = torch.autograd.grad(initial.slots[0, 1].sum(), values, retain_graph=True)
    row, column = (initial.places[0, 1] * torch.tensor([6, 8])).long().tolist()
    assert seed.abs().sum(dim=2).nonzero().tolist() == [[0, row * 8 + column]]
    assert torch.equal(initial.slots[0, 4:], initial.slots[1, 4:])


def test_the_choice_of_peaks_has_no_gradient():
    module = build()
    initial, _ = start(module)
    initial.slots.sum().backward()
    assert module.objectness.weight.grad is None
    assert module.queries.grad is not None


@pytest.mark.parametrize("bias", [-200.0, 200.0], ids=["nowhere", "everywhere"])
def test_however_sure_the_map_is_slots_are_finite(bias):
    module = build()
    torch.nn.init.constant_(module.objectness.bias, bias)
    initial, _ = start(module)
    assert initial.slots.isfinite().all()


def test_few_pixels_are_used_more_than_once():
    initial, _ = start(build(), height=1, width=2)
    assert initial.slots.shape == (2, 6, DIM)
    assert torch.equal(initial.places[:, 1], initial.places[:, 3])


def test_all_slots_may_be_seeds():
    initial, _ = start(build(slots=4, peaks=4))
    assert initial.slots.shape == (2, 4, DIM)
    assert not initial.places.isnan().any()


@pytest.mark.parametrize("peaks", [0, 7])
def test_a_number_of_peaks_that_cannot_be_is_refused(peaks):
    with pytest.raises(ConfigError, match=r"PEAKS\.NUM is \d; give 1 to .* = 6"):
        build(peaks=peaks)


@pytest.mark.parametrize("channels", [0, 28])
def test_channels_that_do_not_fall_into_groups_are_refused(channels):
    with pytest.raises(ConfigError, match=rf"PEAKS\.CHANNELS is {channels}; give a multiple of 8"):
        build(channels=channels)


def test_without_classes_there_are_no_things():
    with pytest.raises(ConfigError, match="set MODEL.HEAD.NAME to PanopticHead"):
        build(head="")


def test_peaks_of_a_finer_map_start_from_the_token_around_them():
    module = build(in_feature="fine")
    values = torch.randn(1, 2 * 3, DIM, requires_grad=True)
    features = {"s1": torch.randn(1, CHANNELS, 2, 3), "fine": torch.randn(1, 3, 4, 6)}
    initial = module(Tokens(values, (2, 3)), features, None)
    assert initial.guess.objectness.shape == (1, 4, 6)
    row, column = (initial.places[0, 2] * torch.tensor([4, 6])).long().tolist()
    (seed,) = torch.autograd.grad(initial.slots[0, 2].sum(), values)
    assert seed[0].abs().sum(dim=1).nonzero().tolist() == [[row // 2 * 3 + column // 2]]


def test_a_map_that_there_is_not_is_named():
    with pytest.raises(ConfigError, match=r"PEAKS\.IN_FEATURE: .* 'none'; choose from s1, fine"):
        build(in_feature="none")
