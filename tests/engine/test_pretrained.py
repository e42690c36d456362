"""ImageNet weights of other libraries in Detectron2's ResNet."""

from __future__ import annotations

import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone
from safetensors.torch import save_file
from torch import nn

from slotseg import get_cfg
from slotseg.engine.checkpoint import SlotSegCheckpointer
from slotseg.engine.pretrained import convert_resnet
from slotseg.errors import CheckpointError


@pytest.fixture(scope="module")
def original():
    """torchvision's ResNet-50, random, with norms that do something."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def backbone(name):
    cfg = get_cfg(overrides=["MODEL.BACKBONE.NAME", name, "MODEL.RESNETS.STRIDE_IN_1X1", False])
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    return build_backbone(cfg).eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_features_are_those_of_torchvision(tmp_path, original, suffix):
    source, target = str(tmp_path / f"resnet50{suffix}"), str(tmp_path / "r50.pth")
    (torch.save if suffix == ".pth" else save_file)(original.state_dict(), source)
    # 53 convolutions, each with the four tensors of its norm.
    assert convert_resnet(source, target) == 53 * 5
    resnet, pyramid = backbone("build_resnet_backbone"), backbone("build_resnet_fpn_backbone")
    for model in (resnet, pyramid):
        SlotSegCheckpointer(model).load(target, checkpointables=[])
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = original.maxpool(original.relu(original.bn1(original.conv1(image))))
        found, inside = resnet(image), pyramid.bottom_up(image)
        for number in range(1, 5):
            x = getattr(original, f"layer{number}")(x)
            for features in (found, inside):
                torch.testing.assert_close(
                    features[f"res{number + 1}"], x, rtol=1e-3, atol=1e-3 * x.abs().max().item()
                )


def test_another_network_is_refused(tmp_path):
    source, target = tmp_path / "vit.pth", tmp_path / "out.pth"
    torch.save({"blocks.0.norm1.weight": torch.ones(3)}, source)
    with pytest.raises(CheckpointError, match=rf"{source}: the key blocks.0.norm1.weight has no"):
        convert_resnet(str(source), str(target))
    torch.save({"fc.weight": torch.ones(3)}, source)
    with pytest.raises(CheckpointError, match="holds no weights of a ResNet"):
        convert_resnet(str(source), str(target))
    assert not target.exists()
