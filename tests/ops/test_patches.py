import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slotseg.ops.patches import from_patches, to_patches

side = st.integers(1, 4)


@given(side, side, side, side, st.integers(1, 3), st.integers(1, 2))
def test_there_and_back(rows, columns, height, width, channels, count):
    images = torch.randn(count, channels, rows * height, columns * width)
    patches = to_patches(images, (height, width))
    assert patches.shape == (count, rows * columns, height * width * channels)
    assert torch.equal(from_patches(patches, (height, width), (rows, columns)), images)


def test_patches_are_those_of_a_vision_transformer_in_its_order():
    images = torch.randn(2, 3, 8, 12)
    embed = nn.Conv2d(3, 5, (4, 2), stride=(4, 2), bias=False)
    wanted = embed(images).flatten(2).transpose(1, 2)
    weight = embed.weight.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(to_patches(images, (4, 2)) @ weight.T, wanted)


def test_a_rest_of_a_patch_is_an_error():
    with pytest.raises(ValueError, match="9x8 pixels are not whole patches of 4x4"):
        to_patches(torch.zeros(1, 3, 9, 8), (4, 4))
