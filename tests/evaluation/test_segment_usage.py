"""How predicted segments share the objects, on tables small enough to read."""

from __future__ import annotations

import math

import pytest
import torch

from slotseg.evaluation import segment_usage

OBJECTS = torch.tensor([[False, True, True]])


def usage(*rows: list[float], segments: list[bool] | None = None, objects=OBJECTS):
    table = torch.tensor([rows], dtype=torch.float64)
    is_segment = torch.tensor([segments or [True] * len(rows)])
    result = segment_usage(table, objects, is_segment)
    return {name: getattr(result, name).item() for name in vars(result)}


def test_perfect():
    assert usage([50, 0, 0], [0, 9, 0], [0, 0, 9]) == {
        "in_use": 3,
        "per_object": 1,
        "split": 0,
        "merged": 0,
        "missed": 0,
    }


def test_split():
    result = usage([50, 0, 0], [0, 5, 0], [0, 4, 0], [0, 0, 9], [0, 0, 0])
    assert result == {"in_use": 4, "per_object": 1.5, "split": 0.5, "merged": 0, "missed": 0}


def test_merged():
    result = usage([50, 0, 0], [0, 9, 9])
    assert result == {"in_use": 2, "per_object": 0, "split": 0, "merged": 1, "missed": 0}


def test_missed_in_the_background_is_not_merged():
    result = usage([50, 9, 9], [0, 0, 0])
    assert result == {"in_use": 1, "per_object": 0, "split": 0, "merged": 0, "missed": 1}


def test_unassigned_pixels_are_missed_and_no_segment():
    result = usage([0, 9, 0], [50, 0, 0], [0, 0, 9], segments=[False, True, True])
    assert result == {"in_use": 2, "per_object": 0.5, "split": 0, "merged": 0, "missed": 0.5}


def test_half_is_not_most():
    result = usage([0, 5, 0], [5, 5, 0], [50, 0, 9])
    assert result == {"in_use": 3, "per_object": 0.5, "split": 0, "merged": 0, "missed": 0.5}


def test_without_objects_only_in_use_is_defined():
    result = usage([50, 0, 0], objects=OBJECTS & False)
    assert result.pop("in_use") == 1
    assert all(math.isnan(value) for value in result.values())


def test_rejects_flags_of_another_size():
    table = torch.zeros(1, 2, 3).double()
    with pytest.raises(ValueError, match="is_object"):
        segment_usage(table, torch.ones(1, 2).bool(), torch.ones(1, 2).bool())
    with pytest.raises(ValueError, match="is_segment"):
        segment_usage(table, torch.ones(1, 3).bool(), torch.ones(1, 3).bool())
