"""Whole models on truth that a teacher made up: void, empty, doubtful."""

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.losses.uncertainty import UncertaintyLoss

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
    "LOSSES.DIVERSITY.WEIGHT", 0.0,
    "LOSSES.MASKS.WEIGHT", 1.0,
    "LOSSES.MASKS.PIXEL_LOSS", "bce",
    "LOSSES.MASKS.AUXILIARY_WEIGHT", 0.5,
    "LOSSES.MASKS.ATTENTION_WEIGHT", 0.5,
    "DATASETS.TRAIN", ("test_pseudo_targets",),
]  # fmt: skip
CLASSES = [
    "MODEL.HEAD.NAME", "PanopticHead",
    "LOSSES.UNCERTAINTY.WEIGHT", 0.5,
    "LOSSES.UNCERTAINTY.THRESHOLD", 1.0,
]  # fmt: skip
PEAKS = [
    *CLASSES,
    "MODEL.SLOTS.INITIALIZER.NAME", "PeakInitializer",
    "MODEL.SLOTS.PEAKS.NUM", 3,
    "MODEL.SLOTS.PEAKS.CHANNELS", 8,
    "LOSSES.OBJECTNESS.WEIGHT", 1.0,
    "LOSSES.CLASS_MAP.WEIGHT", 1.0,
]  # fmt: skip
SIGMOID = ["MODEL.MASK_ACTIVATION", "sigmoid"]
POINTS = [*CLASSES, *SIGMOID, "LOSSES.MASKS.POINTS", 32, "LOSSES.MASKS.ATTENTION_WEIGHT", 0.0]
MODELS = {
    "no-head": [], "head": CLASSES, "sigmoid": [*CLASSES, *SIGMOID], "peaks": PEAKS,
    "points": POINTS,
}  # fmt: skip
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=list(MODELS))


def make_model(options):
    torch.manual_seed(0)
    names = [("road", False), ("car", True)]
    classes = [Category(i, name, thing, (0, 0, 0)) for i, (name, thing) in enumerate(names)]
    set_class_metadata("test_pseudo_targets", classes)
    return build_model(get_cfg(overrides=[*SMALL, *options]))


def sample(segment_map, categories, confidence=None, number=0):
    generator = torch.Generator().manual_seed(number)
    made = {
        "file_name": f"{number}.png",
        "image": torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8),
        "segment_map": segment_map,
        "segment_category": torch.tensor(categories, dtype=torch.int64),
        "segment_is_object": torch.tensor(categories, dtype=torch.int64) == 1,
        "segment_is_crowd": torch.zeros(len(categories), dtype=torch.bool),
    }
    if confidence is not None:
        made["segment_confidence"] = torch.tensor(confidence)
    return made


def void():
    return torch.full((32, 32), -1)


def street():
    segment_map = torch.zeros(32, 32, dtype=torch.int64)
    segment_map[4:12, 6:14] = 1
    return segment_map


@every_model
def test_no_segment_at_all_costs_nothing_and_has_a_gradient(options):
    model = make_model(options)
    losses = model([sample(void(), [], []), sample(void(), [], [], 1)])
    assert {name: value.item() for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


def test_slots_are_not_paired_by_a_truth_that_there_is_not():
    pairs = ["LOSSES.CONTRASTIVE.WEIGHT", 1.0, "LOSSES.CONTRASTIVE.PAIRS", "truth"]
    model = make_model([*CLASSES, *pairs])
    losses = model([sample(void(), [], []), sample(street(), [0, 1], [0.5, 0.5], 1)])
    alone = model([sample(void(), [], [])])
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["loss_contrastive"].item() >= 0.0
    assert alone["loss_contrastive"].item() == 0.0


@every_model
def test_true_and_doubtful_images_share_a_batch(options):
    model = make_model(options)

    def losses_with(*confidence):
        torch.manual_seed(1)
        second = sample(street(), [0, 1], list(confidence) or None, 1)
        values = model([sample(street(), [0, 1, 1]), second])
        return {name: value.item() for name, value in values.items()}

    believed, doubted = losses_with(1.0, 1.0), losses_with(0.5, 0.5)
    assert believed == losses_with()
    assert all(doubted[name] < value for name, value in believed.items()), (believed, doubted)


def test_void_around_a_segment_asks_nothing_of_masks():
    model = make_model(MODELS["sigmoid"])
    batch = [sample(torch.where(street() == 1, 0, -1), [1], [0.9])]
    seen = model.look(model.preprocess(batch), earlier=True)
    losses = model.compute_losses(batch, seen)
    logits = seen.decoded[0].mask_logits
    paid = losses["loss_mask_pixel"] + losses["loss_mask_dice"]
    (gradient,) = torch.autograd.grad(paid, logits)
    asked = gradient[0].abs().amax(dim=0) > 0
    # Masks are at half the size of the image.
    assert asked.nonzero().amin(dim=0).tolist() == [2, 3]
    assert asked.nonzero().amax(dim=0).tolist() == [5, 6]


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@every_model
def test_pixel_probabilities_on_request(options, amp):
    model = make_model(options).eval()
    wanted = {**sample(street(), [0, 1]), "want_pixel_probs": True}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        asked, plain = model([wanted, sample(street(), [0, 1], number=1)])
    assert "pixel_probs" not in plain
    probs = asked["pixel_probs"]
    assert probs.dtype == torch.float32
    assert probs.shape[1:] == asked["slot_masks"].shape[1:]
    assert probs.shape[0] == (3 if options else 5)
    assert torch.allclose(probs.sum(dim=0), torch.ones(probs.shape[1:]), atol=1e-5)


def test_pixel_probabilities_are_those_of_the_uncertainty_loss():
    model = make_model(MODELS["sigmoid"]).eval()
    batch = [{**sample(street(), [0, 1]), "want_pixel_probs": True}]
    with torch.no_grad():
        seen = model.look(model.preprocess(batch))
        found = model.segment(batch, seen)[0]["pixel_probs"]
        loss = UncertaintyLoss(weight=1.0, independent_masks=True)
        assert torch.equal(found, loss.class_map(seen.prediction)[0])


def test_confidence_of_slots_without_classes_is_their_mean_mask():
    model = make_model(MODELS["no-head"]).eval()
    with torch.no_grad():
        (output,) = model([sample(street(), [])])
    ids, segments = output["panoptic_seg"]
    masks = torch.nn.functional.interpolate(
        output["slot_masks"][None], ids.shape, mode="bilinear", align_corners=False
    )[0]
    for segment in segments:
        inside = masks[segment["slot"]][ids == segment["id"]]
        assert segment["area"] == len(inside)
        assert segment["confidence"] == pytest.approx(inside.mean().item(), rel=1e-5)
