"""InfoNCE between the slots of two views: by hand, its pairs and its symmetries."""

import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from slotseg import get_cfg
from slotseg.errors import ConfigError, DatasetError
from slotseg.losses import ContrastiveSlotLoss, ViewSpec
from slotseg.losses.contrastive import info_nce

FLIP = ViewSpec(flip=True)
several = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make_loss(**options):
    return ContrastiveSlotLoss(**{"weight": 1.0, "view": FLIP, "temperature": 0.5, **options})


def logits_of(owner, count):
    """Sharp mask logits ``[1, count, 1, P]``: pixel p belongs to slot ``owner[p]``."""
    return 40.0 * one_hot(torch.tensor(owner), count).T.reshape(1, count, 1, -1).float()


def unit(*vectors):
    return torch.nn.functional.normalize(torch.tensor([vectors]), dim=-1)


def nce(positive, *negatives):
    """Cross entropy of picking the first of these cosines at temperature 0.5."""
    return -2 * positive + math.log(sum(math.exp(2 * x) for x in (positive, *negatives)))


def test_info_nce_by_hand():
    # Cosines of the first set's slots (rows) with the second's: [[1, 0.6], [0, 0.8]].
    first, second = unit([1.0, 0.0], [0.0, 1.0]), unit([1.0, 0.0], [0.6, 0.8])
    value = info_nce(first, second, torch.tensor([[0, 1]]), temperature=0.5)
    there = nce(1.0, 0.6) + nce(0.8, 0.0)
    back = nce(1.0, 0.0) + nce(0.8, 0.6)
    assert value.item() == pytest.approx((there + back) / 4)
    # A slot without a partner asks for none, but is one of those to choose from.
    value = info_nce(first, second, torch.tensor([[-1, 1]]), temperature=0.5)
    assert value.item() == pytest.approx((nce(0.8, 0.0) + nce(0.8, 0.6)) / 2)


def test_slots_are_paired_by_their_masks_after_the_view_is_undone(step_of):
    # Slot 0 is left and slot 1 right; in the mirror image slot 1 sees, on the left, what is right.
    slots = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    masks = logits_of([0, 0, 1], 2)
    mirrored = logits_of([1, 0, 0], 2)
    loss = make_loss()
    same = loss(step_of(masks, slots, views={FLIP: (mirrored, slots, None)}))
    assert same["loss_contrastive"].item() == pytest.approx(nce(1.0, 0.0), rel=1e-5)
    # Had it not been mirrored, slot 1 would overlap what is slot 0 there more than itself.
    crossed = make_loss(min_overlap=0.4)(step_of(masks, slots, views={FLIP: (masks, slots, None)}))
    assert crossed["loss_contrastive"].item() == pytest.approx(nce(0.0, 1.0), rel=1e-5)


def test_pairs_of_little_overlap_are_none_and_the_paired_share_is_logged(step_of):
    slots = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    masks = logits_of([0, 0, 0, 1], 2)
    # Undone, slot 0 has pixels 1 and 2 of 0 to 2 (overlap 2/3), slot 1 pixels 0 and 3 (1/2).
    mirrored = logits_of([1, 0, 0, 1], 2)
    views = {FLIP: (mirrored, slots.detach(), None)}
    for least, share in ((0.4, 1.0), (0.6, 0.5), (0.7, 0.0)):
        with EventStorage() as storage:
            value = make_loss(min_overlap=least)(step_of(masks, slots, views=views))
        assert storage.latest()["contrastive/paired_slots"][0] == pytest.approx(share)
    assert value["loss_contrastive"].item() == 0.0
    value["loss_contrastive"].backward()
    assert not slots.grad.any()


def test_pairs_by_the_truth_survive_masks_that_do_not_overlap(step_of):
    slots = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    other = slots[:, [2, 0, 1]]
    # Two segments of 4 pixels; each view's slots hold most of one, 3 of 4 pixels, others than the
    # other view's.
    truth = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1]]])
    masks = logits_of([2, 0, 0, 0, 1, 1, 1, 2], 3)
    mirrored = logits_of([0, 0, 0, 2, 1, 2, 1, 1][::-1], 3)
    step = step_of(masks, slots, segment_maps=truth, views={FLIP: (mirrored, other, None)})
    loss = make_loss(pairs="truth", min_overlap=0.7)
    # In both views the segments' slots are 0 and 1, the third is left over.
    cosines = slots[0] @ other[0].T
    expected = [
        nce(cosines[i, i].item(), *(x.item() for j, x in enumerate(line) if j != i))
        for i in (0, 1)
        for line in (cosines[i], cosines[:, i])
    ]
    assert loss(step)["loss_contrastive"].item() == pytest.approx(sum(expected) / 4, rel=1e-4)
    # Of pixels 1 to 3 and 0 to 2 two are common, of four.
    overlapping = make_loss(min_overlap=0.7)(step)["loss_contrastive"].item()
    assert overlapping == 0.0


def test_absent_segments_make_no_pairs(step_of):
    # Segment 1 was cut away: of three slots one holds segment 0, one segment 2, one nothing.
    masks, slots = logits_of([0, 0, 2, 2], 3), torch.eye(3)[None]
    loss = make_loss(pairs="truth", min_overlap=0.0)
    truth = {"segment_maps": torch.tensor([[[0, 0, 2, 2]]])}
    with EventStorage() as storage:
        loss(step_of(masks, slots, views={FLIP: (masks.flip(-1), slots, None)}, **truth))
    assert storage.latest()["contrastive/paired_slots"][0] == pytest.approx(2 / 3)


def test_truth_is_needed_for_pairs_by_it(step_of):
    masks = logits_of([0, 1], 2)
    step = step_of(masks, views={FLIP: (masks, torch.zeros(1, 2, 4), None)})
    with pytest.raises(DatasetError, match=r"image0\.png: has no mask.*PAIRS"):
        make_loss(pairs="truth")(step)


def test_negatives_of_the_whole_batch(step_of):
    # Two images of two slots; the second's are the first's turned by 45 degrees.
    half = math.sqrt(0.5)
    slots = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[half, half], [-half, half]]])
    masks = logits_of([0, 1], 2).expand(2, -1, -1, -1)
    step = step_of(masks, slots, views={FLIP: (masks.flip(-1), slots, None)})
    alone = make_loss()(step)["loss_contrastive"].item()
    assert alone == pytest.approx(nce(1.0, 0.0), rel=1e-5)
    whole = make_loss(negatives="batch")(step)["loss_contrastive"].item()
    # Of the other image's slots two are at 45 degrees, or one at 45 and one at 135.
    expected = (nce(1.0, 0.0, half, -half) + nce(1.0, 0.0, half, half)) / 2
    assert whole == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("negatives", ["image", "batch"])
@several
@given(seed=st.integers(0, 2**16), count=st.integers(1, 5), batch=st.integers(1, 3))
def test_the_order_of_slots_does_not_matter(step_of, negatives, seed, count, batch):
    generator = torch.Generator().manual_seed(seed)
    masks = 4 * torch.randn(batch, count, 3, 4, generator=generator)
    slots, others = torch.randn(2, batch, count, 5, generator=generator)
    noisy = masks.flip(-1) + torch.randn(masks.shape, generator=generator)
    first, second = (torch.randperm(count, generator=generator) for _ in range(2))
    loss = make_loss(negatives=negatives, min_overlap=0.2)
    there = loss(step_of(masks, slots, views={FLIP: (noisy, others, None)}))
    shuffled = loss(
        step_of(
            masks[:, first], slots[:, first],
            views={FLIP: (noisy[:, second], others[:, second], None)},
        )
    )  # fmt: skip
    torch.testing.assert_close(shuffled["loss_contrastive"], there["loss_contrastive"])


def test_a_projection_learns_with_the_slots(step_of):
    cfg = get_cfg(
        overrides=["LOSSES.CONTRASTIVE.WEIGHT", 1.0, "MODEL.SLOTS.DIM", 6,
                   "LOSSES.CONTRASTIVE.PROJECTION_DIM", 3]
    )  # fmt: skip
    loss = ContrastiveSlotLoss(cfg)
    assert loss.views == (FLIP,)
    slots = torch.randn(1, 2, 6, requires_grad=True)
    masks = logits_of([0, 1], 2)
    step = step_of(masks, slots, views={FLIP: (masks.flip(-1), torch.randn(1, 2, 6), None)})
    loss(step)["loss_contrastive"].backward()
    assert loss.projection(slots).shape == (1, 2, 3)
    assert all(p.grad.abs().sum() > 0 for p in [slots, loss.projection[0].weight])


@pytest.mark.parametrize(
    ("option", "value"),
    [("PAIRS", "colour"), ("NEGATIVES", "world"), ("TEMPERATURE", 0.0), ("SCALE", 0.0)],
    ids=["pairs", "negatives", "temperature", "scale"],
)
def test_options_are_checked(option, value):
    key = f"LOSSES.CONTRASTIVE.{option}"
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        ContrastiveSlotLoss(get_cfg(overrides=[key, value]))
