"""Batches packed into one block come out as they went in."""

from __future__ import annotations

import pickle

import pytest
import torch

from slotseg.data.transport import pack, unpack


def test_round_trip() -> None:
    batch = [
        {
            "file_name": "a.png",
            "height": 3,
            "image": torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8),
            "segment_map": torch.randint(-1, 4, (5, 7)),
            "segment_is_object": torch.tensor([False, True, True]),
            "weight": torch.tensor(1.5),
            "boxes": torch.rand(0, 4),
            "turned": torch.rand(4, 6).t(),
        },
        {"file_name": "b.png", "image": torch.zeros(3, 1, 1, dtype=torch.uint8)},
    ]
    packed = pickle.loads(pickle.dumps(pack(batch)))
    assert not any(isinstance(v, torch.Tensor) for item in packed.items for v in item.values())
    result = unpack(packed)
    assert [list(item) for item in result] == [list(item) for item in batch]
    for before, after in zip(batch, result, strict=True):
        for key, value in before.items():
            if isinstance(value, torch.Tensor):
                assert after[key].dtype == value.dtype and torch.equal(after[key], value)
            else:
                assert after[key] == value


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([-1, 0, 127], 1),
        ([-129, 0], 2),
        ([128], 2),
        ([2**15], 4),
        ([-(2**31) - 1, 2**31], 8),
        ([2**63 - 1, -(2**63)], 8),
        ([], 0),
    ],
)
def test_whole_numbers_travel_small_and_arrive_as_they_were(values: list[int], size: int) -> None:
    tensor = torch.tensor(values, dtype=torch.int64)
    packed = pack([{"a": tensor}])
    assert len(packed.block) == -(-size * len(values) // 16) * 16
    assert packed.block.is_shared()
    result = unpack(packed)[0]["a"]
    assert result.dtype == torch.int64 and torch.equal(result, tensor)


def test_batches_without_tensors_and_unpacked_ones() -> None:
    assert unpack(pack([{"a": 1}])) == [{"a": 1}]
    assert unpack(pack([])) == []
    batch = [{"a": torch.ones(2)}]
    assert unpack(batch) is batch


def test_samples_do_not_share_bytes() -> None:
    first, second = unpack(pack([{"a": torch.zeros(3)}, {"a": torch.zeros(3)}]))
    first["a"].add_(1)
    assert second["a"].tolist() == [0, 0, 0]
