"""A masked autoencoder: the ViT sees the visible patches and no other, and gives its weights on."""

import pytest
import torch
from detectron2.modeling import build_backbone, build_model

from slotseg.config import get_cfg
from slotseg.engine.checkpoint import SlotSegCheckpointer
from slotseg.errors import ConfigError, DatasetError
from slotseg.ops.patches import from_patches, to_patches

FAMILIES = {
    "plain": ("vit_tiny_patch16_224", {}),
    "no_class_token": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": ""}),
    "registers": ("vit_small_patch14_reg4_dinov2", {}),
    "rotary": ("vit_small_patch16_dinov3", {}),
}
families = pytest.mark.parametrize("family", FAMILIES)


def config(family="plain", **options):
    """A tiny model; options are those of MODEL.MAE, or of MODEL.VIT with ``VIT_`` in front."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskedAutoencoder"
    cfg.MODEL.BACKBONE.NAME = "build_dinov2_backbone"
    cfg.MODEL.VIT.NAME, arguments = FAMILIES[family]
    tiny = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    cfg.MODEL.VIT.ARGS.update({**tiny, **arguments})
    cfg.MODEL.VIT.UNFROZEN_BLOCKS = -1
    cfg.MODEL.MAE.DECODER_DIM = 32
    for name, value in options.items():
        node = cfg.MODEL.VIT if name.startswith("VIT_") else cfg.MODEL.MAE
        node[name.removeprefix("VIT_")] = value
    return cfg


def make_batch(count=2, size=(32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)}
        for _ in range(count)
    ]


@families
def test_the_vit_sees_the_visible_patches_and_where_they_are(family):
    model = build_model(config(family)).eval()
    for name, parameter in model.named_parameters():
        if "gamma" in name:  # layer scales start near zero: attention would hardly count
            parameter.data.fill_(1.0)
    pixels = torch.randn(2, 3, 32, 32)
    patches = to_patches(pixels, (8, 8))
    visible, hidden = model.draw(2, (4, 4))
    assert visible.shape == (2, 4) and hidden.shape == (2, 12)
    assert torch.equal(
        torch.cat([visible, hidden], 1).sort(1).values, torch.arange(16).expand(2, -1)
    )
    seen = model.encode(pixels, visible)
    assert seen.shape == (2, 4, 32)

    # What is hidden does not matter, ...
    other = pixels.clone()
    rows, columns = hidden[0, 0] // 4 * 8, hidden[0, 0] % 4 * 8
    other[0, :, rows : rows + 8, columns : columns + 8] += 1
    assert not torch.equal(to_patches(other, (8, 8)), patches)
    assert torch.equal(model.encode(other, visible), seen)
    # ... what is visible does, ...
    rows, columns = visible[0, 0] // 4 * 8, visible[0, 0] % 4 * 8
    other[0, :, rows : rows + 8, columns : columns + 8] += 1
    assert not torch.allclose(model.encode(other, visible)[0], seen[0])
    # ... and so does its place: the same contents, exchanged, give other tokens.
    exchanged = patches.clone()
    exchanged[0, visible[0].roll(1)] = patches[0, visible[0]]
    moved = from_patches(exchanged, (8, 8), (4, 4))
    assert not torch.allclose(model.encode(moved, visible.roll(1, 1))[0], seen[0], atol=1e-4)


@families
def test_all_patches_visible_is_the_whole_image(family):
    model = build_model(config(family)).eval()
    pixels = torch.randn(2, 3, 32, 32)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    whole = model.backbone.vit.forward_features(pixels)[:, model.backbone.vit.num_prefix_tokens :]
    wanted = whole.gather(1, order.unsqueeze(-1).expand(-1, -1, 32))
    torch.testing.assert_close(model.encode(pixels, order), wanted, rtol=1e-4, atol=1e-5)


def test_the_loss_is_over_hidden_patches_relative_to_their_own_color_and_deviation():
    patches = torch.randn(1, 4, 192) * 3 + 1
    painted = torch.randn(1, 4, 195)
    hidden = torch.tensor([[2, 1]])
    content = colors = 0.0
    for number in (1, 2):
        pixels = patches[0, number].double().view(64, 3)
        contrast = pixels - pixels.mean(0)
        wanted = contrast / ((contrast**2).mean() + 0.5**2).sqrt()
        found = painted[0, number].double()
        content += ((found[:192].view(64, 3) - wanted) ** 2).mean().item() / 2
        colors += ((found[192:] - pixels.mean(0)) ** 2).mean().item() / 2
    model = build_model(config(FLAT_DEVIATION=0.5, COLOR_WEIGHT=3.0))
    losses = model.compute_losses(painted, patches, hidden)
    assert losses["loss_patches"].item() == pytest.approx(content, rel=1e-5)
    assert losses["loss_colors"].item() == pytest.approx(3 * colors, rel=1e-5)
    without = build_model(config(FLAT_DEVIATION=0.5, COLOR_WEIGHT=0.0))
    losses = without.compute_losses(painted[..., :192], patches, hidden)
    assert list(losses) == ["loss_patches"]
    assert losses["loss_patches"].item() == pytest.approx(content, rel=1e-5)
    plain = build_model(config(NORMALIZE_PATCHES=False))
    losses = plain.compute_losses(painted[..., :192], patches, hidden)
    assert list(losses) == ["loss_patches"]
    wanted = ((painted[..., :192] - patches)[0, [1, 2]] ** 2).mean().item()
    assert losses["loss_patches"].item() == pytest.approx(wanted, rel=1e-5)


def test_a_flat_patch_has_a_finite_loss_and_gradient():
    model = build_model(config()).train()
    batch = [{"image": torch.full((3, 32, 32), 7, dtype=torch.uint8)}] * 2
    loss = sum(model(batch).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("family", "decoder"),
    [*((family, "convolution") for family in FAMILIES), ("plain", "attention")],
)
def test_training_reaches_every_parameter_and_learns_a_fixed_batch(family, decoder):
    torch.manual_seed(0)
    model = build_model(config(family, DECODER=decoder, DECODER_DEPTH=1)).train()
    # A smooth image: its hidden parts follow from its visible ones.
    ramp = torch.linspace(0, 255, 32)
    image = torch.stack([ramp.expand(32, 32), ramp.expand(32, 32).T, ramp.expand(32, 32).flip(1)])
    batch = [{"image": image.byte()}] * 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        if step == 1:
            assert [
                n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()
            ] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]


def test_training_under_autocast_has_a_float32_loss():
    model = build_model(config()).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(make_batch())
    assert sorted(losses) == ["loss_colors", "loss_patches"]
    for loss in losses.values():
        assert loss.dtype == torch.float32 and torch.isfinite(loss)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (40, 52)], ids=["fits", "stretched"])
def test_pictures_keep_what_is_visible_and_paint_the_rest(normalize, size):
    model = build_model(config(NORMALIZE_PATCHES=normalize)).eval()
    batch = make_batch(size=size)
    with torch.no_grad():
        outputs = model(batch)
    for x, output in zip(batch, outputs, strict=True):
        assert set(output) == {"reconstruction", "masked_image"}
        assert output["reconstruction"].shape == output["masked_image"].shape == (3, *size)
        for picture in output.values():
            assert picture.min() >= 0 and picture.max() <= 255
        if size == (32, 32):
            original = to_patches(x["image"][None].float(), (8, 8))[0]
            for picture in output.values():
                same = (to_patches(picture[None], (8, 8))[0] - original).abs().amax(1) < 0.1
                assert same.sum() == 4


PAINTED = {
    "contents_and_colors": {},
    "contents": {"COLOR_WEIGHT": 0.0},
    "pixels": {"NORMALIZE_PATCHES": False},
}


@pytest.mark.parametrize("painted", PAINTED)
def test_painting_what_is_asked_for_gives_the_image_back(painted):
    model = build_model(config(**PAINTED[painted])).eval()
    batch = make_batch()
    patches = to_patches(model.backbone.prepare(model.preprocess(batch)), (8, 8))
    perfect, colors, _ = model._as_painted(patches)
    if painted == "contents_and_colors":
        perfect = torch.cat([perfect, colors], dim=-1)
    _, hidden = model.draw(2, (4, 4))
    for loss in model.compute_losses(perfect, patches, hidden).values():
        assert loss.item() == pytest.approx(0, abs=1e-6)
    outputs = model.paint(perfect, patches, hidden, (4, 4), (32, 32))
    for x, output in zip(batch, outputs, strict=True):
        torch.testing.assert_close(output["reconstruction"], x["image"].float(), rtol=0, atol=0.05)


def test_which_patches_are_hidden_follows_the_seed():
    model = build_model(config())
    torch.manual_seed(3)
    first = model.draw(4, (4, 4))[0]
    torch.manual_seed(3)
    assert torch.equal(model.draw(4, (4, 4))[0], first)
    assert not torch.equal(model.draw(4, (4, 4))[0], first)


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.01, 15), (0.999, 1)])
def test_at_least_one_patch_is_on_either_side(ratio, kept):
    visible, hidden = build_model(config(MASK_RATIO=ratio)).draw(1, (4, 4))
    assert visible.shape[1] == kept and hidden.shape[1] == 16 - kept


@families
def test_a_frozen_backbone_starts_from_its_checkpoint(family, tmp_path):
    torch.manual_seed(0)
    model = build_model(config(family))
    SlotSegCheckpointer(model, str(tmp_path)).save_weights("model_final")
    torch.manual_seed(1)
    frozen = config(family, VIT_WEIGHTS=str(tmp_path / "model_final.pth"), VIT_UNFROZEN_BLOCKS=0)
    backbone = build_backbone(frozen)
    images = torch.randn(1, 3, 32, 32)
    wanted = model.eval().backbone(images)
    for name, values in backbone(images).items():
        assert torch.equal(values, wanted[name])


def test_learnt_positions_start_as_waves_but_not_over_given_weights(tmp_path):
    model = build_model(config())
    positions = model.backbone.vit.pos_embed[0, 1:].detach()
    # Waves: the squares of a sine and its cosine add up, the same in every place.
    assert torch.allclose(positions.square().sum(1), torch.tensor(32 / 2.0))
    near = torch.nn.functional.cosine_similarity(positions[5], positions[6], dim=0)
    far = torch.nn.functional.cosine_similarity(positions[0], positions[15], dim=0)
    assert near > far
    with torch.no_grad():
        model.backbone.vit.pos_embed.fill_(0.25)
    SlotSegCheckpointer(model, str(tmp_path)).save_weights("model_final")
    again = build_model(config(VIT_WEIGHTS=str(tmp_path / "model_final.pth")))
    assert (again.backbone.vit.pos_embed == 0.25).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"MASK_RATIO": 1.0}, "MASK_RATIO is 1.0"),
        ({"MASK_RATIO": 0.0}, "MASK_RATIO is 0.0"),
        ({"FLAT_DEVIATION": 0.0}, "FLAT_DEVIATION is 0.0"),
        ({"COLOR_WEIGHT": -1.0}, "COLOR_WEIGHT -1.0"),
        ({"DECODER": "lstm"}, "'lstm' is unknown; choose attention or convolution"),
        ({"DECODER_DIM": 40}, "DECODER_DIM 40"),
        ({"DECODER_DEPTH": 0}, "DECODER_DEPTH 0"),
        ({"VIT_UNFROZEN_BLOCKS": 1}, "UNFROZEN_BLOCKS"),
        ({"VIT_UNFROZEN_BLOCKS": 0}, "UNFROZEN_BLOCKS"),
    ],
    ids=lambda value: (
        "_".join(f"{k}_{v}" for k, v in value.items())
        if value and not isinstance(value, str)
        else ""
    ),
)
def test_options_that_make_no_sense(options, told):
    with pytest.raises(ConfigError, match=told) as caught:
        build_model(config(**options))
    assert "\n" not in str(caught.value)


def test_other_backbones_are_refused():
    cfg = config()
    cfg.MODEL.BACKBONE.NAME = "build_lean_unet_backbone"
    with pytest.raises(ConfigError, match="build_lean_unet_backbone"):
        build_model(cfg)


def test_images_that_cannot_be_trained_on():
    model = build_model(config()).train()
    with pytest.raises(ConfigError, match="one patch"):
        model(make_batch(size=(8, 8)))
    with pytest.raises(DatasetError, match="in the same batch"):
        model(make_batch(1) + make_batch(1, (32, 40)))
