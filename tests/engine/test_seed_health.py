"""Statistics of seeds made by hand, and what is said about them."""

import json
import re

import pytest
import torch

from slotseg.config import get_cfg
from slotseg.engine.seed_health import (
    SeedStatistics,
    diagnose_seeds,
    seed_planes,
    seed_statistics,
)
from slotseg.engine.slot_health import COLLAPSED, WARNING, sibling_similarity

GOOD = SeedStatistics(seed_similarity=0.1, seeded_slots=4.0, fallback_share=0.1)


def start(slots, seeded):
    return {"initial_slots": torch.tensor(slots), "seeded_slots": seeded}


def find(**values):
    return diagnose_seeds(
        SeedStatistics(**(GOOD.as_dict() | values)), similarity_warning=0.5, similarity_error=0.8
    )


def test_only_seeds_count_and_only_images_with_two_of_them():
    equal = start([[1.0, 1.0], [2.0, 2.0], [-1.0, 1.0]], 2)
    orthogonal = start([[1.0, 0.0], [0.0, 3.0], [5.0, 5.0]], 2)
    single = start([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], 1)
    none = start([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], 0)
    found = seed_statistics([equal, orthogonal, single, none])
    assert found.seed_similarity == pytest.approx(0.5)
    assert (found.seeded_slots, found.fallback_share) == (1.25, 0.25)
    assert seed_statistics([none]) == SeedStatistics(0.0, 0.0, 1.0)


def test_initialisers_that_do_not_look_at_images_have_no_seeds():
    assert seed_statistics([{"initial_slots": torch.ones(2, 2)}]) is None
    assert seed_statistics([]) is None


@pytest.mark.parametrize(
    ("values", "level", "words"),
    [
        ({"seed_similarity": 0.6}, WARNING, "the slots start alike .*0.60"),
        ({"seed_similarity": 0.9}, COLLAPSED, "the slots start alike .*0.90"),
        ({"fallback_share": 0.75}, WARNING, "75% of the images fall into no parts"),
    ],
    ids=["rather alike", "alike", "fallback"],
)
def test_each_fault_is_told_with_its_way_out(values, level, words):
    (finding,) = find(**values)
    assert finding.level == level
    assert re.match(words, finding.message)
    assert "\n" not in finding.message


def test_seeds_that_differ_are_fine():
    assert find() == []
    assert find(seed_similarity=-0.9) == []


def test_every_option_that_is_named_exists():
    text = " ".join(f.message for f in find(seed_similarity=0.9, fallback_share=1.0))
    keys = set(re.findall(r"\bMODEL(?:\.[A-Z_]+)+\b", text))
    assert len(keys) == 4
    for key in keys:
        node = get_cfg()
        for part in key.split("."):
            assert part in node, key
            node = node[part]


def test_planes_are_plain_numbers_for_a_file():
    slots = [[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 5.0]]
    (plane,) = seed_planes([start(slots, 2)], ["folder/a.png"])
    assert json.loads(json.dumps(plane)) == plane
    assert plane["image"] == "a.png"
    assert plane["seeded"] == 2
    assert plane["explained"] == 1.0
    assert plane["similarity"] == pytest.approx(5**-0.5, abs=1e-4)
    found = torch.cdist(torch.tensor(plane["points"]), torch.tensor(plane["points"]))
    torch.testing.assert_close(found, torch.cdist(*[torch.tensor(slots)] * 2), atol=1e-3, rtol=0)


def test_siblings_are_compared_within_their_family():
    slots = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    two_pairs = {"slots": slots, "parent_of": torch.tensor([0, 0, 1, 1])}
    assert sibling_similarity([two_pairs]) == pytest.approx(0.5)
    assert sibling_similarity([{**two_pairs, "parent_of": torch.arange(4)}]) == 0.0
    assert sibling_similarity([{"slots": slots}]) is None
