"""Vision transformers as backbones: sizes, keys, and what of them is trained."""

import re

import pytest
import timm
import torch
from detectron2.modeling import build_backbone
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slotseg.backbone import VisionTransformerBackbone
from slotseg.errors import ConfigError

# One of each kind: class token alone, four registers beside it, rotary position with registers.
FAMILIES = {
    "plain": ("vit_tiny_patch16_224", {}),
    "dinov2": ("vit_small_patch14_dinov2", {"patch_size": 14, "img_size": 56}),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", {"patch_size": 14, "img_size": 56}),
    "dinov3": ("vit_small_patch16_dinov3", {"patch_size": 16, "img_size": 64, "num_heads": 2}),
    "dinov3_biased": ("vit_tiny_patch16_dinov3_qkvb", {"num_heads": 2}),
}
families = pytest.mark.parametrize("family", FAMILIES)


def wake(backbone):
    """Biases and scales that start at zero or near it, at values that matter."""
    for name, parameter in backbone.named_parameters():
        if name.endswith(("bias", "gamma", "gamma_1", "gamma_2", "cls_token", "reg_token")):
            nn.init.normal_(parameter.data, std=0.5)
    return backbone


def trained(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


@families
@pytest.mark.parametrize("size", [(32, 32), (64, 112), (45, 70)])
def test_it_declares_what_it_returns(tiny_vit, family, size):
    name, arguments = FAMILIES[family]
    backbone = tiny_vit("KEYS", True, name=name, **arguments).train()
    stride = arguments.get("patch_size", 8)
    maps = backbone(torch.randn(2, 3, *size))
    shapes = backbone.output_shape()
    assert list(maps) == [f"s{stride}", "keys"] == list(shapes)
    grid = [int(side / stride + 0.5) for side in size]
    for key, shape in shapes.items():
        assert (shape.channels, shape.stride) == (24, stride)
        assert maps[key].shape == (2, 24, *grid)


def test_the_map_is_that_of_the_same_network_for_images_of_one_size(tiny_vit):
    backbone = tiny_vit().eval()
    fixed = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=24, depth=3, num_heads=3, patch_size=8, img_size=32
    )
    fixed.load_state_dict(backbone.vit.state_dict(), strict=False)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = fixed.eval().forward_features(backbone.prepare(images))
    expected = tokens[:, 1:].reshape(2, 4, 4, 24).permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone(images)["s8"], expected)


def test_a_stride_that_is_no_patch_covers_the_image_with_whole_patches(tiny_vit):
    backbone = tiny_vit("STRIDE", 16, name="vit_small_patch14_dinov2", patch_size=14, img_size=56)
    assert backbone.grid(512, 1024) == (32, 64)
    assert backbone.prepare(torch.zeros(1, 3, 512, 1024)).shape[-2:] == (448, 896)
    assert backbone(torch.randn(1, 3, 64, 128))["s16"].shape[-2:] == (4, 8)
    assert backbone.output_shape()["s16"].stride == 16


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    stride=st.integers(4, 20),
)
def test_any_image_becomes_the_nearest_whole_number_of_patches(tiny_vit, height, width, stride):
    backbone = tiny_vit("STRIDE", stride, depth=1)
    rows, columns = backbone.grid(height, width)
    for count, side in ((rows, height), (columns, width)):
        assert count >= 1 and (abs(count * stride - side) <= stride / 2 or count == 1)
    maps = backbone(torch.randn(1, 3, height, width))
    assert maps[f"s{stride}"].shape[-2:] == (rows, columns)
    assert maps[f"s{stride}"].isfinite().all()


def test_pixels_reach_the_vit_normalised_as_its_weights_want(tiny_vit):
    pixels = torch.randint(0, 256, (1, 3, 32, 32)).float()
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    prepared = tiny_vit().prepare((pixels - 127.5) / 127.5)
    torch.testing.assert_close(prepared, (pixels - mean) / std)


@families
def test_keys_are_those_that_the_last_attention_compares(tiny_vit, monkeypatch, family):
    name, arguments = FAMILIES[family]
    backbone = wake(tiny_vit("KEYS", True, name=name, **arguments))
    compared = []
    attend = nn.functional.scaled_dot_product_attention

    def listening(queries, keys, values, **options):
        compared.append(keys)
        return attend(queries, keys, values, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", listening)
    found = backbone(torch.randn(2, 3, 64, 64))["keys"]
    assert len(compared) == 3
    last = compared[-1][:, :, backbone.vit.num_prefix_tokens :]
    expected = last.transpose(2, 3).flatten(1, 2).unflatten(2, found.shape[-2:])
    if not family.startswith("dinov3"):
        torch.testing.assert_close(found, expected)
        return
    # Rotary position turns pairs of channels and keeps the length of each head's key.
    assert not torch.allclose(found, expected, atol=1e-2)
    heads = backbone.vit.blocks[-1].attn.num_heads
    torch.testing.assert_close(
        found.unflatten(1, (heads, -1)).norm(dim=2), expected.unflatten(1, (heads, -1)).norm(dim=2)
    )


def test_frozen_means_no_gradient_no_chance_and_nothing_kept(tiny_vit):
    backbone = tiny_vit("KEYS", True, drop_path_rate=0.5, proj_drop_rate=0.5).train()
    assert backbone.training and not backbone.vit.training
    assert backbone.frozen and trained(backbone) == set()
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    first, second = backbone(images), backbone(images)
    for name in first:
        assert not first[name].requires_grad
        assert torch.equal(first[name], second[name])


@families
def test_the_last_blocks_learn_and_nothing_else(tiny_vit, family):
    name, arguments = FAMILIES[family]
    backbone = tiny_vit("UNFROZEN_BLOCKS", 2, name=name, **arguments).train()
    learning = trained(backbone.vit)
    assert {n.split(".")[0] for n in learning} == {"blocks", "norm"}
    assert {n.split(".")[1] for n in learning if n.startswith("blocks")} == {"1", "2"}
    assert [block.training for block in backbone.vit.blocks] == [False, True, True]
    backbone(torch.randn(2, 3, 64, 64)).popitem()[1].square().mul(
        torch.rand(24, 1, 1)
    ).sum().backward()
    with_gradient = {n for n, p in backbone.vit.named_parameters() if p.grad is not None}
    assert with_gradient == learning


def test_all_of_it_learns(tiny_vit):
    backbone = tiny_vit("UNFROZEN_BLOCKS", -1).train()
    assert trained(backbone.vit) == {name for name, _ in backbone.vit.named_parameters()}
    assert backbone.vit.training and not backbone.eval().vit.training


@pytest.mark.parametrize("count", [-2, 4])
def test_blocks_that_are_not_there_cannot_learn(tiny_vit, count):
    with pytest.raises(ConfigError, match=rf"UNFROZEN_BLOCKS: {count}, but the ViT has 3 blocks"):
        tiny_vit("UNFROZEN_BLOCKS", count)


@families
def test_low_rank_updates_start_at_nothing_and_change_only_themselves(tiny_vit, family):
    name, arguments = FAMILIES[family]
    plain = wake(tiny_vit(name=name, **arguments))
    tuned = tiny_vit("LORA_RANK", 2, name=name, **arguments).train()
    assert not tuned.frozen
    learning = trained(tuned.vit)
    assert learning and all(n.endswith((".0.up", ".0.down")) for n in learning)
    own = tuned.vit.state_dict()
    renamed = {
        key if key in own else key.replace("weight", "parametrizations.weight.original"): value
        for key, value in plain.vit.state_dict().items()
    }
    tuned.vit.load_state_dict(renamed, strict=False)
    images = torch.randn(1, 3, 48, 48)
    before = plain(images)
    torch.testing.assert_close(tuned(images), before)
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=10.0)
    start = {n: p.detach().clone() for n, p in tuned.vit.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        next(iter(tuned(images).values())).mul(torch.rand(24, 1, 1)).sum().backward()
        optimizer.step()
    moved = {n for n, p in tuned.vit.named_parameters() if not torch.equal(p, start[n])}
    assert moved == learning
    (name,) = before
    assert not torch.allclose(tuned(images)[name], before[name])


def test_low_rank_updates_go_where_nothing_else_learns(tiny_vit):
    backbone = tiny_vit("LORA_RANK", 2, "UNFROZEN_BLOCKS", 1)
    updated = {n.split(".")[1] for n in trained(backbone.vit) if n.endswith(".up")}
    assert updated == {"0", "1"}
    with pytest.raises(ConfigError, match="every block is trained already"):
        tiny_vit("LORA_RANK", 2, "UNFROZEN_BLOCKS", -1)
    with pytest.raises(ConfigError, match="LORA_RANK: 25, but the ViT is 24 wide"):
        tiny_vit("LORA_RANK", 25)


def test_layers_learn_slower_the_deeper_they_lie(tiny_vit):
    backbone = tiny_vit("UNFROZEN_BLOCKS", -1, "LAYER_DECAY", 0.5)
    factors = dict(backbone.learning_rate_factors())
    named = {name: factors[p] for name, p in backbone.vit.named_parameters()}
    assert len(factors) == len(named)
    expected = {"norm": 1.0, "blocks.2": 0.5, "blocks.1": 0.25, "blocks.0": 0.125}
    for name, factor in named.items():
        place = next((p for p in expected if name.startswith(f"{p}.")), None)
        assert factor == expected.get(place, 0.0625), name
    assert named["pos_embed"] == named["patch_embed.proj.weight"] == 0.0625


def test_maps_from_a_cache_stand_for_the_vit(tiny_vit):
    backbone = tiny_vit("KEYS", True)
    images = torch.randn(2, 3, 32, 32)
    maps = backbone.token_maps(images)
    cached = {name: value.half() for name, value in maps.items()}
    backbone.vit.forward_features = None  # it must not run
    given = backbone(images, maps=cached)
    for name, value in maps.items():
        assert given[name].dtype == torch.float32
        torch.testing.assert_close(given[name], value, rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match="cached maps lack keys"):
        backbone(images, maps={"s8": cached["s8"]})


def test_a_trained_vit_takes_no_maps_from_a_cache(tiny_vit):
    backbone = tiny_vit("LORA_RANK", 1)
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(ConfigError, match="it is trained here"):
        backbone(images, maps=backbone.token_maps(images))


def test_the_same_seed_gives_the_same_random_vit(tiny_vit):
    def build(seed):
        torch.manual_seed(seed)
        return tiny_vit().vit.state_dict()

    one, same, other = build(3), build(3), build(4)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch14_dinov2", "no model.*did you mean vit_small_patch14_dinov2,"),
        ("nothing_like_it_at_all_9", "timm.list_models"),
        ("vit_small_patch14_dinov2.lvd142", "no model.*did you mean vit_small_patch14_dinov2.lvd1"),
        ("resnet50", "resnet50"),
        (
            "swin_tiny_patch4_window7_224",
            r"\(SwinTransformer\) is no vision transformer on plain patches",
        ),
        ("vit_tiny_r_s16_p8_224", "is no vision transformer on plain patches"),
    ],
)
def test_names_of_no_vit(vit_config, name, message):
    cfg = vit_config(name=name)
    cfg.MODEL.VIT.ARGS.clear()
    with pytest.raises(ConfigError, match=message) as error:
        build_backbone(cfg)
    assert "\n" not in str(error.value)


def test_arguments_that_timm_does_not_know(tiny_vit):
    with pytest.raises(ConfigError, match=r"ARGS .*'deepness'"):
        tiny_vit(deepness=3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.FORMAT", "BGR", "but a ViT takes RGB"),
        ("MODEL.VIT.STRIDE", -1, "give pixels"),
        ("MODEL.VIT.LAYER_DECAY", 0.0, "give a factor above 0"),
        ("MODEL.VIT.LAYER_DECAY", 1.5, "give a factor above 0"),
        ("MODEL.VIT.PIXEL_MEAN", [127.5], "give one number for each of R, G and B"),
        ("MODEL.VIT.PIXEL_STD", [1.0, 0.0, 1.0], "R, G and B, above 0"),
    ],
)
def test_values_that_cannot_work(vit_config, key, value, message):
    with pytest.raises(ConfigError, match=rf"{key}: {re.escape(str(value))}.* {message}"):
        build_backbone(vit_config(key, value))


def test_keys_need_an_attention_that_has_some(tiny_vit):
    class Mixing(nn.Module):
        def forward(self, x):
            return x

    vit = tiny_vit().vit
    vit.blocks[-1].attn = Mixing()
    with pytest.raises(ConfigError, match=r"MODEL\.VIT\.KEYS"):
        VisionTransformerBackbone(vit, keys=True)


def test_gradients_pass_under_autocast(tiny_vit):
    backbone = tiny_vit("KEYS", True, "UNFROZEN_BLOCKS", 1).train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(torch.randn(1, 3, 32, 32))
    sum(value.float().sum() for value in maps.values()).backward()
    assert backbone.vit.blocks[-1].attn.qkv.weight.grad.isfinite().all()
