"""Levels of several strides from a vision transformer's only map."""

import pytest
import torch
from detectron2.modeling import build_backbone

from slotseg.backbone.feature_pyramid import HalvedMap
from slotseg.errors import ConfigError

PYRAMID = ["MODEL.BACKBONE.NAME", "build_dinov2_fpn_backbone", "MODEL.VIT_FPN.CHANNELS", 12]


@pytest.fixture
def pyramid(vit_config):
    def make(*options, **arguments):
        return build_backbone(vit_config(*PYRAMID, *options, **arguments))

    return make


@pytest.mark.parametrize("norm", ["LN", "GN"])
@pytest.mark.parametrize("size", [(64, 64), (64, 128), (48, 104)])
def test_it_declares_what_it_returns(pyramid, norm, size):
    backbone = pyramid("MODEL.VIT_FPN.NORM", norm, "MODEL.VIT.KEYS", True)
    maps = backbone(torch.randn(2, 3, *size))
    shapes = backbone.output_shape()
    assert list(maps) == ["s4", "s8", "s16", "s32", "plain", "keys"] == list(shapes)
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32, 8, 8]
    for name, shape in shapes.items():
        assert shape.channels == (24 if name in ("plain", "keys") else 12)
        rows, columns = (side / shape.stride for side in size)
        assert maps[name].shape[:2] == (2, shape.channels)
        # One token more where halving leaves a half.
        assert 0 <= maps[name].shape[2] - rows < 1 and 0 <= maps[name].shape[3] - columns < 1


def test_dinov2_with_patches_of_14_gives_strides_4_to_32(pyramid):
    backbone = pyramid(
        "MODEL.VIT.STRIDE", 16, name="vit_small_patch14_dinov2", patch_size=14, img_size=56
    )
    maps = backbone(torch.randn(1, 3, 128, 256))
    assert {name: tuple(m.shape[-2:]) for name, m in maps.items()} == {
        "s4": (32, 64),
        "s8": (16, 32),
        "s16": (8, 16),
        "s32": (4, 8),
        "plain": (8, 16),
    }


def test_every_level_learns_and_the_frozen_vit_does_not(pyramid):
    backbone = pyramid().train()
    assert backbone.frozen and not backbone.vit.training
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert not maps["plain"].requires_grad
    weights = torch.rand(12, 1, 1)
    sum((maps[name] * weights).square().sum() for name in backbone.levels).backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == name.startswith("levels."), name


def test_the_base_map_is_kept_beside_the_level_of_its_stride(pyramid):
    backbone = pyramid("MODEL.VIT_FPN.STRIDES", [8, 16])
    images = torch.randn(1, 3, 64, 64)
    maps = backbone(images)
    assert torch.equal(maps["plain"], backbone.token_maps(images)["s8"])
    assert maps["s8"].shape == (1, 12, 8, 8)


def test_levels_from_a_cache_are_those_from_images(pyramid):
    backbone = pyramid("MODEL.VIT.KEYS", True)
    images = torch.randn(1, 3, 64, 64)
    cached = backbone.token_maps(images)
    fresh = backbone(images)
    backbone.vit.forward_features = None  # it must not run
    for name, value in backbone(images, maps=cached).items():
        assert torch.equal(value, fresh[name])


def test_a_level_sees_only_what_its_tokens_see(pyramid):
    """Nothing slides: what changes in one token stays within a 3x3 convolution of its place."""
    backbone = pyramid("MODEL.VIT_FPN.STRIDES", [2, 8, 16])
    images = torch.zeros(1, 3, 128, 128)
    plain = torch.randn(1, 24, 16, 16)
    other = plain.clone()
    other[..., 5, 9] += 3.0
    before, after = (backbone(images, maps={"s8": maps}) for maps in (plain, other))
    for stride in (2, 8, 16):
        moved = (before[f"s{stride}"] != after[f"s{stride}"]).any(dim=1)[0].nonzero() * stride
        assert len(moved)
        # In pixels, the token lies at rows 40 to 47 and columns 72 to 79.
        low, high = moved.min(dim=0).values, moved.max(dim=0).values + stride
        for axis, start in enumerate((40, 72)):
            first = start - start % stride
            assert low[axis] >= first - stride
            assert high[axis] <= max(start + 8, first + stride) + stride


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 8), (1, 3), (7, 7)])
def test_halving_takes_every_pixel_and_no_other(height, width):
    x = torch.randn(1, 2, height, width)
    halved = HalvedMap()(x)
    assert halved.shape[-2:] == ((height + 1) // 2, (width + 1) // 2)
    for row in range(height):
        for column in range(width):
            peak = x.clone()
            peak[0, 0, row, column] = 9.0
            found = (HalvedMap()(peak)[0, 0] == 9.0).nonzero()
            assert len(found)
            # The windows that see it are those whose share of the image touches it.
            for place, side, cells in ((row, height, 0), (column, width, 1)):
                parts = (side + 1) // 2
                for part in found[:, cells].tolist():
                    assert part * side < (place + 1) * parts and place * parts < (part + 1) * side


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("MODEL.VIT_FPN.STRIDES", [8, 12]), r"STRIDES: \[8, 12\], but a token stands for 8"),
        (("MODEL.VIT_FPN.STRIDES", [8, 8]), "different powers of two"),
        (("MODEL.VIT_FPN.STRIDES", []), "different powers of two"),
        (("MODEL.VIT_FPN.STRIDES", [0, 8]), "different powers of two"),
        (("MODEL.VIT.STRIDE", 14), r"a token stands for 14 pixels.*MODEL\.VIT\.STRIDE"),
        (("MODEL.VIT_FPN.NORM", "BN"), "unknown norm 'BN'; choose LN or GN"),
    ],
)
def test_what_makes_no_pyramid(pyramid, options, message):
    with pytest.raises(ConfigError, match=message):
        pyramid(*options)
