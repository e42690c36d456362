"""Slot statistics on slots and masks made by hand, and what is said about them."""

import math
import re

import pytest
import torch

from slotseg.config import get_cfg
from slotseg.engine.slot_health import (
    COLLAPSED,
    HEALTHY,
    WARNING,
    SlotStatistics,
    diagnose,
    slot_statistics,
    verdict,
)

GOOD = SlotStatistics(similarity=0.1, mask_entropy=0.2, slots_in_use=4.0, largest_share=0.5)
GRADIENTS = {"backbone": 0.1, "slots": 0.2, "decoders": 0.3}


def output(slots, masks):
    return {"slots": torch.tensor(slots), "slot_masks": torch.tensor(masks)}


def find(statistics, gradients=GRADIENTS, num_slots=4):
    return diagnose(
        statistics,
        gradients,
        num_slots=num_slots,
        similarity_warning=0.5,
        similarity_error=0.8,
    )


def changed(**values):
    return SlotStatistics(**(GOOD.as_dict() | values))


def test_hard_masks_of_orthogonal_slots():
    masks = [[[1.0, 1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]]
    found = slot_statistics([output([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0]], masks)])
    assert found == SlotStatistics(0.0, 0.0, 2.0, 0.75)


def test_uniform_masks_of_equal_slots():
    found = slot_statistics([output([[1.0, 2.0]] * 3, [[[1 / 3, 1 / 3]]] * 3)])
    assert found.similarity == pytest.approx(1.0)
    assert found.mask_entropy == pytest.approx(1.0)
    assert found.largest_share == 1.0


def test_hand_computed_mix_and_mean_over_images():
    # Cosines of the three pairs: 0, -1, 0.
    first = output([[1.0, 0], [0, 1.0], [-1.0, 0]], [[[0.5]], [[0.5]], [[0.0]]])
    second = output([[1.0, 0]] * 3, [[[0.0]], [[0.0]], [[1.0]]])
    found = slot_statistics([first, second])
    assert found.similarity == pytest.approx((-1 / 3 + 1.0) / 2)
    assert found.mask_entropy == pytest.approx(math.log(2) / math.log(3) / 2)
    assert found.slots_in_use == 1.0


def test_zero_slots_and_a_single_slot_are_finite():
    found = slot_statistics([output([[0.0, 0.0], [0.0, 0.0]], [[[1.0]], [[0.0]]])])
    assert found.similarity == 0.0
    alone = slot_statistics([output([[1.0, 0.0]], [[[1.0]]])])
    assert alone == SlotStatistics(0.0, 0.0, 1.0, 1.0)
    assert find(alone, num_slots=1) == []


def test_healthy():
    assert find(GOOD) == []
    assert verdict([]) == HEALTHY


@pytest.mark.parametrize(
    ("statistics", "gradients", "level", "words"),
    [
        (changed(similarity=0.6), GRADIENTS, WARNING, "the slots are becoming alike"),
        (changed(similarity=0.9), GRADIENTS, COLLAPSED, "the slots have become alike"),
        (
            changed(slots_in_use=1.0, largest_share=1.0),
            GRADIENTS,
            COLLAPSED,
            r"one slot owns everything \(1\.0 slots in use, the largest has 100%",
        ),
        (changed(mask_entropy=0.99), GRADIENTS, COLLAPSED, "the masks are uniform"),
        (GOOD, GRADIENTS | {"slots": 0.0}, COLLAPSED, "no gradient reaches the slots"),
    ],
)
def test_each_way_to_collapse_is_told_with_its_way_out(statistics, gradients, level, words):
    (finding,) = find(statistics, gradients)
    assert finding.level == level == verdict([finding])
    assert re.match(words, finding.message)
    assert "\n" not in finding.message


def test_worst_comes_first():
    findings = find(changed(similarity=0.6, mask_entropy=0.99))
    assert [finding.level for finding in findings] == [COLLAPSED, WARNING]
    assert verdict(findings) == COLLAPSED


def test_every_option_that_is_named_exists():
    findings = find(changed(similarity=0.9, slots_in_use=1.0, mask_entropy=0.99), {"backbone": 0.0})
    text = " ".join(finding.message for finding in findings)
    keys = set(re.findall(r"\b(?:MODEL|SOLVER|LOSSES)(?:\.[A-Z_]+)+\b", text))
    assert len(keys) >= 8
    cfg = get_cfg()
    for key in keys:
        node = cfg
        for part in key.split("."):
            assert part in node, key
            node = node[part]
    names = set(re.findall(r"\b[A-Z][a-z]+Initializer\b", text))
    assert names == {"LearnedInitializer", "OrthogonalInitializer"}
