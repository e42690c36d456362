"""Weights of vision transformers from the files that there are."""

from __future__ import annotations

import pytest
import timm
import torch
from detectron2.modeling import build_backbone
from safetensors.torch import save_file
from torch import nn

from slotseg.errors import CheckpointError, ConfigError

SIZE = {"embed_dim": 24, "depth": 3, "num_heads": 3, "img_size": 56}


def original(name, **arguments):
    """timm's network with a classifier and random weights of which none is zero."""
    vit = timm.create_model(name, **{**SIZE, **arguments}).eval()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.2)
    return vit


def features(vit, size=56):
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return vit.forward_features(images)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_timms_files(tmp_path, tiny_vit, kind):
    vit = original("vit_tiny_patch16_224", patch_size=8, num_classes=5)
    path = str(tmp_path / f"model.{kind}")
    (save_file if kind == "safetensors" else torch.save)(vit.state_dict(), path)
    loaded = tiny_vit("WEIGHTS", path, img_size=56)
    torch.testing.assert_close(features(loaded.vit), features(vit))


def test_position_embeddings_of_another_size_are_resampled(tmp_path, tiny_vit):
    vit = original("vit_tiny_patch16_224", patch_size=8, img_size=64)
    path = str(tmp_path / "model.safetensors")
    save_file(vit.state_dict(), path)
    loaded = tiny_vit("WEIGHTS", path, img_size=32).vit
    assert loaded.pos_embed.shape == (1, 1 + 16, 24)
    assert torch.equal(loaded.pos_embed[:, 0], vit.pos_embed[:, 0])
    torch.testing.assert_close(
        loaded.pos_embed[:, 1:].mean(), vit.pos_embed[:, 1:].mean(), rtol=0, atol=0.02
    )


def as_dinov2(vit):
    """The names and parts of DINOv2's own files."""
    state = {k: v for k, v in vit.state_dict().items() if not k.startswith("head.")}
    state["mask_token"] = torch.zeros(1, 24)
    if "reg_token" in state:
        # One position embedding is the class token's there, timm has added it already.
        state["register_tokens"] = state.pop("reg_token")
        first = torch.full((1, 1, 24), 0.25)
        state["cls_token"] = state["cls_token"] - first
        state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    if "giant" in vit.pretrained_cfg["architecture"]:
        state = {k.replace("fc1", "w12").replace("fc2", "w3"): v for k, v in state.items()}
    return state


@pytest.mark.parametrize(
    "name",
    ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_giant_patch14_reg4_dinov2"],
)
def test_dinov2s_own_files(tmp_path, tiny_vit, name):
    vit = original(name, num_classes=0)
    path = str(tmp_path / "dinov2.pth")
    torch.save(as_dinov2(vit), path)
    loaded = tiny_vit("WEIGHTS", path, name=name, patch_size=14, img_size=56)
    torch.testing.assert_close(features(loaded.vit), features(vit))


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_dinov3s_own_files(tmp_path, tiny_vit, name, capsys):
    vit = original(name, num_heads=2, num_classes=0, img_size=64)
    state = {}
    for key, value in vit.state_dict().items():
        if key.endswith("v_bias"):
            continue
        if key.endswith("q_bias"):
            values = vit.get_parameter(key.replace("q_bias", "v_bias")).data
            value = torch.cat([value, torch.zeros_like(value), values])
            key = key.replace("q_bias", "qkv.bias")
        for ours, theirs in (("gamma_", "ls"), ("reg_token", "storage_tokens")):
            key = key.replace(ours, theirs)
        state[f"{key}.gamma" if key[-3:] in ("ls1", "ls2") else key] = value
    state["mask_token"] = torch.zeros(1, 24)
    state["rope_embed.periods"] = torch.ones(6)
    for block in (f"blocks.{i}.attn.qkv" for i in range(3)):
        state.setdefault(f"{block}.bias", torch.zeros(72))
        state[f"{block}.bias_mask"] = torch.ones(72)
    path = str(tmp_path / "dinov3.pth")
    torch.save(state, path)
    loaded = tiny_vit("WEIGHTS", path, name=name, patch_size=16, num_heads=2, img_size=64)
    torch.testing.assert_close(features(loaded.vit, 64), features(vit, 64))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("builder", ["build_dinov2_backbone", "build_dinov2_fpn_backbone"])
def test_checkpoints_of_models_that_hold_one(tmp_path, vit_config, tiny_vit, builder):
    # Wider than high: nothing may take its position embeddings for a square's.
    shape = {"img_size": [16, 64]}
    source = build_backbone(vit_config("MODEL.BACKBONE.NAME", builder, **shape))
    path = str(tmp_path / "model_final.pth")
    state = {f"backbone.{key}": value for key, value in source.state_dict().items()}
    torch.save({"model": {**state, "slots.mean": torch.zeros(3)}, "iteration": 5}, path)
    loaded = tiny_vit("WEIGHTS", path, **shape).vit.state_dict()
    assert loaded.keys() == source.vit.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in source.vit.state_dict().items())
    with pytest.raises(CheckpointError, match=r"another size.*pos_embed.*ARGS\.img_size"):
        tiny_vit("WEIGHTS", path, img_size=64)


def test_low_rank_updates_of_a_checkpoint_are_added_to_their_matrices(tmp_path, tiny_vit):
    tuned = tiny_vit("LORA_RANK", 2)
    for name, parameter in tuned.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter)
    path = str(tmp_path / "tuned.pth")
    torch.save({"model": {f"backbone.{k}": v for k, v in tuned.state_dict().items()}}, path)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(tiny_vit("WEIGHTS", path)(images), tuned(images))


@pytest.fixture
def saved(tmp_path, tiny_vit):
    path = str(tmp_path / "vit.pth")
    torch.save({"model": tiny_vit().state_dict()}, path)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 48}, "a ViT with 3 blocks of width 24, .* one with 3 blocks of width 48"),
        ({"depth": 2}, "a ViT with 3 blocks of width 24, .* one with 2 blocks of width 24"),
        ({"depth": 4}, "a ViT with 3 blocks of width 24, .* one with 4 blocks of width 24"),
        ({"patch_size": 4, "img_size": 16}, "has patch_embed.proj.weight .* instead of"),
        ({"init_values": 0.1}, r"lacks blocks\.0\.ls1\.gamma, .* and 3 more"),
        ({"class_token": False}, "pos_embed|has in addition cls_token"),
    ],
)
def test_weights_of_another_vit(tiny_vit, saved, arguments, message):
    with pytest.raises(CheckpointError, match=message) as error:
        tiny_vit("WEIGHTS", saved, **arguments)
    assert saved in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("state", [{}, {"conv1.weight": torch.zeros(1)}], ids=["empty", "resnet"])
def test_files_without_a_vit(tmp_path, tiny_vit, state):
    path = str(tmp_path / "other.pth")
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match="should hold one vision transformer but has none"):
        tiny_vit("WEIGHTS", path)


def test_files_with_two(tmp_path, tiny_vit):
    path = str(tmp_path / "two.pth")
    state = tiny_vit().state_dict()
    torch.save({f"{place}.{k}": v for k, v in state.items() for place in ("a", "b")}, path)
    with pytest.raises(CheckpointError, match=r"has 2 \(a\.vit\., b\.vit\.\)"):
        tiny_vit("WEIGHTS", path)


def test_missing_and_damaged_files(tmp_path, tiny_vit, saved):
    with pytest.raises(CheckpointError, match=r"MODEL\.VIT\.WEIGHTS: .*none\.pth: no such"):
        tiny_vit("WEIGHTS", str(tmp_path / "none.pth"))
    with open(saved, "rb") as file:
        content = file.read()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.pth: the checkpoint is damaged") as error:
        tiny_vit("WEIGHTS", str(cut))
    assert "\n" not in str(error.value)


def test_the_hub_cannot_be_reached(tiny_vit, monkeypatch):
    create = timm.create_model

    def offline(name, *, pretrained=False, **options):
        if pretrained:
            raise OSError("Name or service not known\nsee the log")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        CheckpointError, match=r"hub \(Name .* log\); download its .*WEIGHTS"
    ) as error:
        tiny_vit("WEIGHTS", "hub")
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="'deepness'"):
        tiny_vit("WEIGHTS", "hub", deepness=3)


def test_the_hubs_weights_are_asked_for_by_name(tiny_vit, monkeypatch):
    asked = []
    create = timm.create_model

    def fetch(name, *, pretrained=False, **options):
        asked.append((name, pretrained))
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", fetch)
    tiny_vit("WEIGHTS", "hub", name="vit_tiny_patch16_224.augreg_in21k")
    assert asked == [("vit_tiny_patch16_224.augreg_in21k", True)]
