"""From a teacher's predictions to the student's truth."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.errors import ConfigError
from slotseg.semi import PseudoLabeller
from slotseg.semi.filtering import LabelFilter
from slotseg.semi.ramp import RampUp
from slotseg.semi.uncertainty import PixelUncertainty

SET = "test_pseudo_labeller"
SMALL = [
    "MODEL.DEVICE", "cpu",
    "MODEL.BACKBONE.NAME", "build_lean_unet_backbone",
    "MODEL.UNET.CHANNELS", [8, 8],
    "MODEL.UNET.BLOCKS", [1, 1],
    "MODEL.SLOTS.IN_FEATURE", "s4",
    "MODEL.SLOTS.NUM_SLOTS", 5,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.DECODERS", ["MaskProductDecoder"],
    "LOSSES.RECONSTRUCTION.WEIGHT", 0.0,
    "LOSSES.MASKS.WEIGHT", 1.0,
    "DATASETS.TRAIN", (SET,),
    "PSEUDO_LABELS.MIN_AREA", 1,
]  # fmt: skip
HEAD = ["MODEL.HEAD.NAME", "PanopticHead", "MODEL.HEAD.OBJECT_THRESHOLD", 0.0]
TRUSTING = [
    "PSEUDO_LABELS.UNCERTAINTY", "none",
    "PSEUDO_LABELS.MIN_CONFIDENCE_THINGS", 0.0,
    "PSEUDO_LABELS.MIN_CONFIDENCE_STUFF", 0.0,
    "PSEUDO_LABELS.MIN_KEPT_SHARE", 0.0,
]  # fmt: skip
IDS = torch.zeros(4, 8, dtype=torch.int32)
IDS[:2], IDS[2:], IDS[1:3, 2:4] = 1, 2, 5
SEGMENTS = [
    {"id": 1, "category_id": 2, "isthing": False, "confidence": 0.75},
    {"id": 2, "category_id": 0, "isthing": False, "confidence": 0.5},
    {"id": 5, "category_id": 1, "isthing": True, "confidence": 0.875},
]


@pytest.fixture(autouse=True)
def _classes():
    names = [("road", False), ("car", True), ("sky", False)]
    set_class_metadata(
        SET, [Category(i, name, thing, (0, 0, 0)) for i, (name, thing) in enumerate(names)]
    )


def make_cfg(*overrides):
    return get_cfg(overrides=[*SMALL, *overrides])


def make_labeller(**changes):
    return PseudoLabeller(
        **{
            "filters": LabelFilter(),
            "uncertainty": PixelUncertainty("none"),
            "schedule": RampUp(),
            "names": ("road", "car", "sky"),
            "is_thing": (False, True, False),
            **changes,
        }
    )


def test_segments_are_carried_onto_the_students_view(unlabelled, made_up_teacher):
    # The left half of the image, mirrored, at twice its size.
    item = unlabelled((4, 8), window=(0, 0, 4, 4), flip=True, size=(8, 8))
    teacher = made_up_teacher(IDS, SEGMENTS)
    (sample,) = make_labeller()(teacher, [item])
    rows = [[0, 0, 0, 0], [2, 2, 0, 0], [2, 2, 1, 1], [1, 1, 1, 1]]
    expected = torch.tensor(rows).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(sample["segment_map"], expected)
    assert sample["segment_map"].dtype == torch.int64
    assert sample["segment_category"].tolist() == [2, 0, 1]
    assert sample["segment_is_object"].tolist() == [False, False, True]
    assert sample["segment_is_crowd"].tolist() == [False] * 3
    assert sample["segment_confidence"].tolist() == [0.75, 0.5, 0.875]
    assert sample["segment_confidence"].dtype == torch.float32
    for key in ("image", "file_name", "image_id", "height", "width"):
        assert sample[key] is item[key]
    assert sample.keys().isdisjoint({"weak_image", "view"})
    (given,) = teacher.calls[0]
    assert given["image"] is item["weak_image"]
    assert (given["height"], given["width"]) == (4, 8)


def test_without_a_measure_models_are_asked_how_sure_they_are_of_stuff(unlabelled):
    def stock(inputs):
        """Knows no confidence of stuff unless it is asked for the classes of pixels."""
        told = [{"confidence": 0.25} if x.get("want_pixel_probs") else {} for x in inputs]
        stuff = {"id": 1, "category_id": 0, "isthing": False}
        return [
            {"panoptic_seg": (torch.ones(4, 8, dtype=torch.int32), [stuff | more])} for more in told
        ]

    (sample,) = make_labeller()(stock, [unlabelled((4, 8))])
    assert (sample["segment_map"] == -1).all() and not len(sample["segment_confidence"])


def test_segments_out_of_sight_are_not_listed(unlabelled, made_up_teacher):
    item = unlabelled((4, 8), window=(2, 0, 2, 4), size=(4, 8))
    (sample,) = make_labeller()(made_up_teacher(IDS, SEGMENTS), [item])
    assert sample["segment_category"].tolist() == [0, 1]
    assert sample["segment_map"].unique().tolist() == [0, 1]


def test_outside_of_the_picture_is_void(unlabelled, made_up_teacher):
    item = unlabelled((4, 8), window=(-4, 0, 8, 8), size=(8, 8))
    (sample,) = make_labeller()(made_up_teacher(IDS, SEGMENTS), [item])
    assert (sample["segment_map"][:4] == -1).all()
    assert (sample["segment_map"][4:] >= 0).all()


def test_labels_that_are_not_weighted_count_fully(unlabelled, made_up_teacher):
    labeller = make_labeller(weight_by_confidence=False)
    (sample,) = labeller(made_up_teacher(IDS, SEGMENTS), [unlabelled((4, 8))])
    assert sample["segment_confidence"].tolist() == [1.0] * 3


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "doubted"])
def test_without_classes_number_0_is_the_background(unlabelled, made_up_teacher, trusted):
    segments = [{"id": n, "category_id": 0, "isthing": True, "confidence": 0.75} for n in (5, 2, 1)]
    segments[1]["confidence"] = 0.75 if trusted else 0.25
    # Segment 2 has the lower edge and most of both sides.
    ids = IDS.clone()
    ids[1, :2] = ids[1, 4:] = 2
    labeller = make_labeller(names=(), is_thing=(), uncertainty=PixelUncertainty("none", True))
    (sample,) = labeller(made_up_teacher(ids, segments), [unlabelled((4, 8))])
    background = 0 if trusted else -1
    expected = torch.tensor([2, background, 1])[
        [{1: 0, 2: 1, 5: 2}[i] for i in ids.flatten().tolist()]
    ]
    assert torch.equal(sample["segment_map"].flatten(), expected)
    assert sample["segment_is_object"].tolist() == [False, True, True]
    assert sample["segment_confidence"].tolist() == [0.75 if trusted else 1.0, 0.75, 0.75]
    assert sample.keys().isdisjoint({"segment_category", "segment_is_crowd"})


def test_nothing_trusted_at_all(unlabelled, made_up_teacher):
    labeller = make_labeller(filters=LabelFilter(1.0, 1.0))
    (sample,) = labeller(made_up_teacher(IDS, SEGMENTS), [unlabelled((4, 8))])
    assert (sample["segment_map"] == -1).all()
    assert len(sample["segment_category"]) == len(sample["segment_confidence"]) == 0
    labeller = make_labeller(filters=LabelFilter(1.0, 1.0), names=(), is_thing=())
    (sample,) = labeller(made_up_teacher(IDS, SEGMENTS), [unlabelled((4, 8))])
    assert (sample["segment_map"] == -1).all()
    assert sample["segment_is_object"].tolist() == [False]


def test_uncertain_pixels_are_left_out_at_the_size_of_the_view(unlabelled, made_up_teacher):
    # The right half is uncertain, at half the size of the image.
    probs = torch.zeros(2, 2, 4)
    probs[0] = 1.0
    probs[:, :, 2:] = 0.5
    labeller = make_labeller(
        filters=LabelFilter(max_uncertainty=0.5), uncertainty=PixelUncertainty("entropy")
    )
    (sample,) = labeller(made_up_teacher(IDS, SEGMENTS, probs), [unlabelled((4, 8))])
    assert (sample["segment_map"][:, :4] >= 0).all()
    assert (sample["segment_map"][:, 4:] == -1).all()


def test_images_of_one_size_are_seen_at_once_and_stay_in_order(unlabelled):
    def teacher(inputs):
        calls.append([x["file_name"] for x in inputs])
        assert len({x["image"].shape for x in inputs}) == 1
        return [{"panoptic_seg": (torch.ones(x["image"].shape[1:]), SEGMENTS[:1])} for x in inputs]

    calls = []
    items = [unlabelled(size, number=n) for n, size in enumerate([(4, 8), (6, 6), (4, 8)])]
    samples = make_labeller()(teacher, items)
    assert calls == [["0.png", "2.png"], ["1.png"]]
    assert [sample["file_name"] for sample in samples] == ["0.png", "1.png", "2.png"]
    assert [tuple(x["segment_map"].shape) for x in samples] == [(4, 8), (6, 6), (4, 8)]


def test_what_is_logged(unlabelled, made_up_teacher):
    labeller = make_labeller(filters=LabelFilter(0.9, 0.6), schedule=RampUp(0.5))
    truth = {"segment_map": torch.zeros(2, 2, dtype=torch.int64)}
    truth["segment_category"] = torch.tensor([2])
    with EventStorage() as storage:
        labeller(made_up_teacher(IDS, SEGMENTS), [unlabelled((4, 8))] * 2, [truth])
    logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged == {
        "pseudo/weight": 0.5,
        "pseudo/kept": 14 / 32,
        "pseudo/uncertain": 0.0,
        "pseudo/segments": 1.0,
        "pseudo/confidence": 0.75,
        "pseudo/kept_road": 0.0,
        "pseudo/kept_car": 0.0,
        "pseudo/kept_sky": 1.0,
    }
    assert labeller.tally.labeled.tolist() == [0.0, 0.0, 4.0]
    other = make_labeller()
    other.load_state_dict(labeller.state_dict())
    assert other.state_dict().keys() == labeller.state_dict().keys()
    assert other.tally.kept_by_class() == labeller.tally.kept_by_class()


def test_the_teacher_must_tell_what_is_asked(unlabelled, made_up_teacher):
    labeller = make_labeller(uncertainty=PixelUncertainty("entropy"))
    with pytest.raises(ConfigError, match=r"PSEUDO_LABELS.UNCERTAINTY: .*set it to 'none'"):
        labeller(made_up_teacher(IDS, SEGMENTS), [unlabelled((4, 8))])
    with pytest.raises(ConfigError, match="the model gives no panoptic_seg"):
        make_labeller()(lambda inputs: [{} for _ in inputs], [unlabelled((4, 8))])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["PSEUDO_LABELS.UNCERTAINTY", "variance"], "UNCERTAINTY: 'variance' is unknown; none, en"),
        (["PSEUDO_LABELS.MAX_UNCERTAINTY", 2.0], "MAX_UNCERTAINTY: 2.0 should be between 0 and 1"),
        (["SEMI.WEIGHT", -1.0], "SEMI.WEIGHT: -1.0 should be at least 0"),
        (["LOSSES.MASKS.WEIGHT", 0.0], "no loss learns from labels; set one of LOSSES.MASKS"),
        ([*HEAD, "MODEL.HEAD.OUTPUTS", ["sem_seg"]], r"MODEL.HEAD.OUTPUTS is \['sem_seg'\]"),
    ],
    ids=["measure", "threshold", "weight", "losses", "outputs"],
)
def test_configs_that_cannot_work(overrides, message):
    with pytest.raises(ConfigError, match=message):
        PseudoLabeller(make_cfg(*overrides))


@pytest.mark.parametrize("measure", ["entropy", "view_variance"])
@pytest.mark.parametrize("head", [[], HEAD], ids=["slots", "classes"])
def test_a_model_learns_from_its_own_labels(head, measure, unlabelled):
    cfg = make_cfg(
        *head, *TRUSTING, "PSEUDO_LABELS.UNCERTAINTY", measure,
        "PSEUDO_LABELS.MAX_UNCERTAINTY", 1.0,
    )  # fmt: skip
    model, labeller = build_model(cfg), PseudoLabeller(cfg)
    items = [unlabelled((32, 32), window=(4, 4, 20, 20), flip=n == 1, number=n) for n in range(2)]
    samples = labeller(model.eval(), items)
    # The whole image has a label, of the model's own prediction: nothing was filtered.
    assert all((sample["segment_map"] >= 0).all() for sample in samples)
    losses = model.train()(samples)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["loss_mask_dice"].item() > 0


def test_the_strictest_config_keeps_nothing_of_a_new_model(unlabelled):
    cfg = make_cfg(*HEAD, "PSEUDO_LABELS.MAX_UNCERTAINTY", 0.0)
    model, labeller = build_model(cfg), PseudoLabeller(cfg)
    (sample,) = labeller(model.eval(), [unlabelled((32, 32))])
    assert (sample["segment_map"] == -1).all()
    losses = model.train()([sample])
    assert losses["loss_class"].item() == losses["loss_mask_pixel"].item() == 0.0


def test_equal_views_have_no_variance():
    """A model that sees the mirror image mirrored is sure; slots may change their order."""
    probs = torch.rand(3, 4, 6).softmax(dim=0)

    def teacher(inputs):
        turned = probs.flip(-1)[[2, 0, 1] if of_slots else [0, 1, 2]]
        given = turned if bool(inputs[0]["image"][0, 0, 0] == 0) else probs
        return [{"pixel_probs": given} for _ in inputs]

    image = torch.zeros(3, 8, 12, dtype=torch.uint8)
    image[:, :, :6] = 255
    item = {"image": image, "height": 8, "width": 12}
    for of_slots in (False, True):
        _, (uncertainty,) = PixelUncertainty("view_variance", of_slots).predict(teacher, [item])
        assert uncertainty.shape == (8, 12)
        assert uncertainty.abs().max() < 1e-6


def test_opposite_views_have_the_largest_variance():
    def teacher(inputs):
        probs = torch.zeros(2, 2, 2)
        probs[int(inputs[0]["image"][0, 0, 0] == 0)] = 1.0
        return [{"pixel_probs": probs} for _ in inputs]

    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    image[:, :, 0] = 255
    item = {"image": image, "height": 2, "width": 2}
    _, (uncertainty,) = PixelUncertainty("view_variance").predict(teacher, [item])
    assert (uncertainty == 0.5).all()
