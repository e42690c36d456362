import pytest
import torch

from slotseg.ops.resize import resize_ids


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_the_pixel_at_the_centre_counts(dtype):
    ids = torch.tensor([[1, 2, 3], [4, 2**31 - 1, 6], [7, 8, 9]], dtype=dtype)
    assert resize_ids(ids, (1, 1)).tolist() == [[2**31 - 1]]
    assert resize_ids(ids, (1, 1)).dtype == dtype
    large = resize_ids(ids, (6, 9))
    assert torch.equal(large, ids.repeat_interleave(2, 0).repeat_interleave(3, 1))


def test_the_same_size_is_no_work():
    ids = torch.zeros(2, 3, dtype=torch.int32)
    assert resize_ids(ids, (2, 3)) is ids
