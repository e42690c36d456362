import pytest
import torch
from torch import nn

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


def test_unet_map_at_full_resolution_sees_single_pixels():
    torch.manual_seed(0)
    backbone = LeanUNet(3, [8, 8, 8], [1, 1, 1], full_channels=4).eval()
    shapes = backbone.output_shape()
    assert list(shapes) == ["s1", "s2", "s4", "s8"]
    assert (shapes["s1"].channels, shapes["s1"].stride) == (4, 1)
    images = torch.randn(1, 3, 10, 14)
    maps = backbone(images)
    assert maps["s1"].shape == (1, 4, 10, 14)
    images[0, :, 4, 5] += 1.0
    change = (backbone(images)["s1"] - maps["s1"]).abs().sum(dim=1)[0]
    assert divmod(int(change.argmax()), 14) == (4, 5)


def test_unet_map_at_full_resolution_leaves_the_others_alone():
    torch.manual_seed(0)
    with_it = LeanUNet(3, [8, 8], [1, 1], full_channels=4).eval()
    without = LeanUNet(3, [8, 8], [1, 1]).eval()
    without.load_state_dict({k: v for k, v in with_it.state_dict().items() if "full" not in k})
    images = torch.randn(1, 3, 8, 8)
    maps = with_it(images)
    for name, expected in without(images).items():
        torch.testing.assert_close(maps[name], expected)


@pytest.mark.parametrize(
    ("norm", "kind"), [("GN", nn.GroupNorm), ("BN", nn.BatchNorm2d), ("SyncBN", nn.SyncBatchNorm)]
)
def test_unet_has_one_kind_of_norm(norm, kind):
    backbone = LeanUNet(3, [8, 16], [1, 1], full_channels=4, norm=norm)
    norms = [m for m in backbone.modules() if "Norm" in type(m).__name__]
    # Two stages of one halving and one block, one fused stage of two, the full one of 1 + 2.
    assert len(norms) == 2 * 3 + 2 + 3
    assert all(isinstance(m, kind) for m in norms)


def test_unet_refuses_a_norm_that_it_does_not_know():
    with pytest.raises(ConfigError, match=r"MODEL.UNET.NORM is 'LN', expected one of GN, BN"):
        LeanUNet(3, [8], [1], norm="LN")
