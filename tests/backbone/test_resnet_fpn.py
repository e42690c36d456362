"""The trimmed pyramid against Detectron2's whole one."""

import pytest
import torch
from detectron2.modeling import build_backbone

from slotseg.config import get_cfg
from slotseg.errors import ConfigError


def config(name, *levels):
    cfg = get_cfg(None, ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", name])
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    cfg.MODEL.FPN.NORM = "GN"
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.FPN.OUT_FEATURES = list(levels)
    return cfg


@pytest.mark.parametrize("levels", [("p2", "p3"), ("p4", "p2"), ("p2",)], ids="-".join)
def test_its_levels_are_those_of_the_whole_pyramid_and_all_of_it_learns(levels):
    torch.manual_seed(0)
    whole = build_backbone(config("build_resnet_fpn_backbone")).eval()
    trimmed = build_backbone(config("build_trimmed_resnet_fpn_backbone", *levels)).eval()
    left_out = trimmed.load_state_dict(whole.state_dict(), strict=False)
    assert not left_out.missing_keys
    assert {key.split(".")[0] for key in left_out.unexpected_keys} == {
        f"fpn_output{n}" for n in (2, 3, 4, 5) if f"p{n}" not in levels
    }
    images = torch.randn(1, 3, 64, 96)
    found, expected = trimmed(images), whole(images)
    assert sorted(found) == sorted(levels) == sorted(trimmed.output_shape())
    for name, level in found.items():
        assert torch.equal(level, expected[name])
        shape = trimmed.output_shape()[name]
        assert level.shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
    sum(level.square().sum() for level in found.values()).backward()
    assert all(p.grad is not None for p in trimmed.parameters() if p.requires_grad)


@pytest.mark.parametrize("levels", [(), ("p2", "p6"), ("res2",)], ids=["none", "p6", "res2"])
def test_levels_that_there_are_not(levels):
    with pytest.raises(ConfigError, match=r"^MODEL.FPN.OUT_FEATURES: .*p2, p3, p4, p5"):
        build_backbone(config("build_trimmed_resnet_fpn_backbone", *levels))
