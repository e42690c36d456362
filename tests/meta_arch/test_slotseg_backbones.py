"""SlotSeg on backbones other than its own: Detectron2's, and vision transformers."""

from __future__ import annotations

import pytest
import torch
import torchvision
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from slotseg import get_cfg
from slotseg.engine.checkpoint import SlotSegCheckpointer
from slotseg.engine.optimizer import build_optimizer
from slotseg.engine.pretrained import convert_resnet

MASKS = ["LOSSES.MASKS.WEIGHT", 1.0, "LOSSES.RECONSTRUCTION.WEIGHT", 0.0]
VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8, "img_size": 64}


def config(tokens, masks, *overrides):
    cfg = get_cfg(None, ["MODEL.DEVICE", "cpu", *MASKS, *overrides])
    cfg.MODEL.DECODERS = ["MaskProductDecoder"]
    cfg.MODEL.SLOTS.IN_FEATURE = tokens
    cfg.MODEL.MASK_PRODUCT.IN_FEATURE = masks
    return cfg


def resnet_fpn():
    cfg = config("p4", "p2", "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    return cfg


def resnet():
    cfg = config("res4", "res4", "MODEL.BACKBONE.NAME", "build_resnet_backbone")
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    return cfg


def vit(name="build_dinov2_backbone", tokens="s8", masks="s8"):
    cfg = config(tokens, masks, "MODEL.BACKBONE.NAME", name)
    cfg.MODEL.VIT.NAME = "vit_tiny_patch16_224"
    cfg.MODEL.VIT.ARGS.update(VIT)
    return cfg


CONFIGS = {
    "resnet_fpn": resnet_fpn,
    "resnet": resnet,
    "vit": vit,
    "vit_fpn": lambda: vit("build_dinov2_fpn_backbone", "s16", "s4"),
}


def batch(size):
    generator = torch.Generator().manual_seed(0)
    segments = torch.zeros(size, dtype=torch.int64)
    segments[: size[0] // 2, : size[1] // 3] = 1
    image = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    return [{"image": image[i], "segment_map": segments} for i in range(2)]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_trains_and_segments_at_any_size(name):
    cfg = CONFIGS[name]()
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    held = {p for group in optimizer.param_groups for p in group["params"]}
    assert held == {p for p in model.parameters() if p.requires_grad}
    # 72x104 is divisible neither by 16, as the pyramid of ResNets asks, nor by 32.
    images = batch((72, 104))
    with EventStorage():
        losses = model.train()(images)
    sum(losses.values()).backward()
    optimizer.step()
    with torch.no_grad():
        output = model.eval()(images)[0]
    assert output["panoptic_seg"][0].shape == (72, 104)
    masks, attention = output["slot_masks"], output["attention"]
    torch.testing.assert_close(masks.sum(dim=0), torch.ones(masks.shape[1:]))
    shapes = model.backbone.output_shape()
    for found, feature in (
        (masks, cfg.MODEL.MASK_PRODUCT.IN_FEATURE),
        (attention, cfg.MODEL.SLOTS.IN_FEATURE),
    ):
        for side, cells in zip((72, 104), found.shape[1:], strict=True):
            # Stretched to what the backbone asks for, if it asks.
            divisor = max(model.backbone.size_divisibility, 1)
            side = -(-side // divisor) * divisor
            assert abs(cells - side / shapes[feature].stride) < 1


@pytest.mark.parametrize("name", ["vit", "vit_fpn"])
def test_an_image_smaller_than_a_patch_is_one_token_and_can_be_learnt_from(name):
    model = build_model(CONFIGS[name]())
    images = batch((2, 1))
    images[0]["segment_map"][0] = 1
    with EventStorage():
        losses = model.train()(images)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        output = model.eval()(images)[0]
    # The pyramid's levels of finer strides than a token are larger than the image.
    tokens = model.backbone.plain if name == "vit_fpn" else model.backbone
    assert tokens.grid(2, 1) == (1, 1)
    assert output["panoptic_seg"][0].shape == (2, 1)


def test_a_frozen_vit_is_neither_trained_nor_stored_for_training():
    cfg = vit()
    model = build_model(cfg).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    optimizer = build_optimizer(cfg, model)
    saved = []
    with (
        EventStorage(),
        torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x),
    ):
        backbone_alone = model.backbone(torch.randn(2, 3, 64, 64))["s8"]
        assert not saved and not backbone_alone.requires_grad
        losses = model(batch((64, 64)))
    sum(losses.values()).backward()
    optimizer.step()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name])
    held = {p for group in optimizer.param_groups for p in group["params"]}
    assert held.isdisjoint(model.backbone.parameters())


@pytest.mark.parametrize("option", ["UNFROZEN_BLOCKS", "LORA_RANK"])
def test_a_tuned_vit_comes_back_from_its_checkpoint(tmp_path, option):
    cfg = vit()
    cfg.MODEL.VIT[option] = 1
    cfg.SOLVER.BASE_LR = 0.05
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    for _ in range(2):
        optimizer.zero_grad()
        with EventStorage():
            sum(model(batch((64, 64))).values()).backward()
        optimizer.step()
    SlotSegCheckpointer(model, str(tmp_path)).save_weights("model_final")
    torch.manual_seed(9)
    again = build_model(cfg)
    SlotSegCheckpointer(again).load(str(tmp_path / "model_final.pth"), [], strict=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().backbone(images)["s8"]
        assert torch.equal(again.eval().backbone(images)["s8"], expected)
        cfg.MODEL.VIT[option] = 0
        cfg.MODEL.VIT.WEIGHTS = str(tmp_path / "model_final.pth")
        frozen = build_model(cfg).eval().backbone(images)["s8"]
    torch.testing.assert_close(frozen, expected)


def test_imagenet_weights_of_a_resnet_go_into_slotseg(tmp_path):
    source, target = str(tmp_path / "resnet50.pth"), str(tmp_path / "r50.pth")
    original = torchvision.models.resnet50(weights=None)
    torch.save(original.state_dict(), source)
    convert_resnet(source, target)
    model = build_model(resnet())
    SlotSegCheckpointer(model).load(target, checkpointables=[])
    assert torch.equal(model.backbone.stem.conv1.weight, original.conv1.weight)
    assert torch.equal(model.backbone.res4[5].conv3.weight, original.layer3[5].conv3.weight)
