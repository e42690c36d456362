import pytest
import torch

from slotseg.backbone import LeanUNet, SimpleCNN
from slotseg.errors import ConfigError


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_simple_cnn_declares_what_it_returns(size):
    backbone = SimpleCNN(3, [8, 16], [2, 1], 5)
    maps = backbone(torch.randn(2, 3, *size))
    shapes = backbone.output_shape()
    assert list(maps) == ["s2"] == list(shapes)
    assert maps["s2"].shape == (2, shapes["s2"].channels, size[0] // 2, size[1] // 2)


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (50, 70)])
def test_unet_declares_what_it_returns(size):
    backbone = LeanUNet(3, [8, 16, 16], [1, 0, 2])
    maps = backbone(torch.randn(2, 3, *size))
    for name, shape in backbone.output_shape().items():
        expected = [-(-side // shape.stride) for side in size]
        assert maps[name].shape == (2, shape.channels, *expected)


def test_unet_finest_map_depends_on_the_coarsest_stage():
    backbone = LeanUNet(3, [8, 8, 8, 8], [1, 1, 1, 1])
    backbone(torch.randn(1, 3, 64, 64))["s2"].square().sum().backward()
    assert backbone.down[-1].reduce.weight.grad.abs().max() > 0


@pytest.mark.parametrize("build", [SimpleCNN, LeanUNet])
def test_lists_of_different_length_are_refused(build):
    with pytest.raises(ConfigError, match="2 CHANNELS but 1"):
        build(3, [8, 8], [1], *([5] if build is SimpleCNN else []))
