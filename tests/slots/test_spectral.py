"""The spectral initialiser on maps whose parts are known."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec

from slotseg import get_cfg
from slotseg.errors import ConfigError
from slotseg.slots import SpectralInitializer, Tokens, build_slot_initializer

CHANNELS, DIM, SLOTS = 8, 16, 6
SHAPES = {"s1": ShapeSpec(channels=CHANNELS, stride=1), "s2": ShapeSpec(channels=CHANNELS)}


def build(*overrides) -> SpectralInitializer:
    settings = ["INITIALIZER.NAME", "SpectralInitializer", "NUM_SLOTS", SLOTS, "DIM", DIM]
    settings += list(overrides)
    keys = [f"MODEL.SLOTS.{x}" if i % 2 == 0 else x for i, x in enumerate(settings)]
    return build_slot_initializer(get_cfg(overrides=keys), SHAPES).eval()


def quarters(size: int = 8, noise: float = 0.02) -> torch.Tensor:
    """``[1, C, size, size]``: three parts, the left half and two quarters on the right."""
    labels = torch.zeros(size, size, dtype=torch.int64)
    labels[: size // 2, size // 2 :] = 1
    labels[size // 2 :, size // 2 :] = 2
    clean = torch.eye(CHANNELS)[labels].permute(2, 0, 1)
    return (clean + noise * torch.randn(CHANNELS, size, size)).unsqueeze(0)


def tokens_of(features: torch.Tensor) -> Tokens:
    torch.manual_seed(5)
    projected = torch.einsum("bchw,cd->bhwd", features, torch.randn(CHANNELS, DIM))
    return Tokens(projected.flatten(1, 2), tuple(features.shape[-2:]))


def any_images(count: int = 1) -> torch.Tensor:
    """Images that are not of one colour; what is in them counts for affinities by colour only."""
    return torch.linspace(-1, 1, 16).expand(count, 3, 16, 16)


def start(module, features, images=None, name="s1"):
    images = any_images(len(features)) if images is None else images
    return module(tokens_of(features), {name: features}, images)


@pytest.mark.parametrize("affinity", ["cosine", "threshold", "power"])
def test_every_part_gives_one_seed_pooled_from_its_tokens(affinity):
    module = build("SPECTRAL.AFFINITY", affinity)
    features = quarters()
    initial = start(module, features)
    assert initial.slots.shape == (1, SLOTS, DIM)
    assert initial.seeded.tolist() == [3]
    tokens = tokens_of(features)
    values = tokens.values.unflatten(1, tokens.grid)[0]
    mean = values.mean((0, 1))
    parts = [values[:, :4], values[:4, 4:], values[4:, 4:]]
    wanted = module.norm(torch.stack([part.mean((0, 1)) - mean for part in parts]))
    cosine = torch.cosine_similarity(initial.slots[0, :3, None], wanted[None], dim=-1)
    assert sorted(cosine.argmax(dim=1).tolist()) == [0, 1, 2]
    assert cosine.amax(dim=1).min() > 0.999
    torch.testing.assert_close(initial.slots[0, 3:], module.queries[3:])


def test_masks_of_an_image_sum_to_one_and_parts_do_not_depend_on_the_batch():
    module = build()
    two = torch.cat([quarters(), torch.ones(1, CHANNELS, 8, 8)])
    masks, counts = module.parts(two, any_images(2))
    assert masks.shape == (2, SLOTS, 8, 8)
    assert counts.tolist() == [3, 0]
    torch.testing.assert_close(masks[0].sum(0), torch.ones(8, 8))
    assert masks[1].abs().sum() == 0.0
    alone = module.parts(two[:1], any_images())[0]
    torch.testing.assert_close(masks[:1], alone, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize(
    ("count", "seeds"), [("eigengap", 3), ("eigenvalues", 3), ("all", SLOTS)], ids=str
)
def test_how_many_seeds(count, seeds):
    module = build("SPECTRAL.COUNT", count, "SPECTRAL.AFFINITY", "cosine")
    assert start(module, quarters(noise=0.2)).seeded.tolist() == [seeds]


@pytest.mark.parametrize("count", ["eigengap", "eigenvalues", "all"])
@pytest.mark.parametrize(
    "features",
    [torch.full((2, CHANNELS, 8, 8), 3.0), torch.zeros(2, CHANNELS, 8, 8)],
    ids=["one feature", "no feature"],
)
def test_equal_patches_start_on_learnt_queries(features, count):
    module = build("SPECTRAL.COUNT", count)
    initial = start(module, features)
    assert torch.isfinite(initial.slots).all()
    assert initial.seeded.tolist() == [0, 0]
    torch.testing.assert_close(initial.slots, module.queries.expand(2, -1, -1))


def test_images_of_one_color_start_on_learnt_queries_though_their_patches_differ():
    module = build()
    features = quarters().expand(2, -1, -1, -1)
    images = any_images(2).clone()
    images[1] = torch.tensor([0.5, -1.0, 0.0]).view(3, 1, 1)
    initial = start(module, features, images)
    assert initial.seeded.tolist() == [3, 0]
    torch.testing.assert_close(initial.slots[1], module.queries)


@pytest.mark.parametrize(("grid", "most"), [((1, 1), 0), ((1, 2), 0), ((1, 4), 3), ((2, 3), 5)])
@pytest.mark.parametrize("count", ["eigengap", "eigenvalues", "all"])
def test_more_slots_than_patches_are_padded(grid, most, count):
    module = build("SPECTRAL.COUNT", count)
    initial = start(module, torch.randn(3, CHANNELS, *grid))
    assert initial.slots.shape == (3, SLOTS, DIM)
    assert torch.isfinite(initial.slots).all()
    assert initial.seeded.max() <= most
    for slots, seeded in zip(initial.slots, initial.seeded.tolist(), strict=True):
        torch.testing.assert_close(slots[seeded:], module.queries[seeded:])


def test_features_that_are_no_numbers_do_not_stop_the_solver():
    features = quarters()
    features[0, 0, 0, 0] = math.nan
    features[0, 1, 3, 3] = math.inf
    masks, counts = build().parts(features, any_images())
    assert torch.isfinite(masks).all()
    assert counts.item() >= 3


def test_another_map_of_another_size_may_say_which_patches_belong_together():
    module = build("SPECTRAL.FEATURE", "s2", "SPECTRAL.MAX_TOKENS", 36)
    features = quarters(size=16)
    fine = quarters(size=8)
    masks, _ = module.parts(features, any_images())
    assert masks.shape[-2:] == (6, 6)
    initial = module(tokens_of(fine), {"s1": fine, "s2": features}, any_images())
    assert initial.seeded.tolist() == [3]


def test_colour_can_tell_parts_that_features_cannot():
    images = torch.zeros(1, 3, 16, 16)
    images[:, 0, :, 8:] = 1.0
    features = torch.ones(1, CHANNELS, 8, 8)
    assert start(build(), features, images).seeded.tolist() == [0]
    module = build("SPECTRAL.COLOR_WEIGHT", 20.0, "SPECTRAL.COLOR_NEIGHBORS", 31)
    masks, counts = module.parts(features, images)
    assert counts.tolist() == [2]
    left = masks[0, :2].argmax(0) == masks[0, :2, 4, 0].argmax()
    assert left[:, :4].all()
    assert not left[:, 4:].any()


def test_gradients_reach_tokens_queries_and_noise_but_not_the_features():
    module = build().train()
    features = quarters().requires_grad_()
    tokens = tokens_of(features.detach())
    tokens.values.requires_grad_()
    module(tokens, {"s1": features}, any_images()).slots.square().sum().backward()
    assert tokens.values.grad.abs().sum() > 0
    assert (module.queries.grad.abs().sum(1) > 0).tolist() == [False] * 3 + [True] * 3
    assert module.log_noise.grad.abs().min() > 0
    assert features.grad is None


def test_noise_is_for_training_only_and_follows_the_seed():
    module = build()
    features = quarters()
    calm = start(module, features).slots
    assert torch.equal(calm, start(module, features).slots)
    module.train()
    shaken = [start(module, features).slots for _ in range(2)]
    assert torch.equal(*shaken)  # tokens_of sets the seed
    difference = (shaken[0] - calm)[0, :3]
    assert 0.05 < float(difference.detach().std()) < 0.2
    assert torch.equal(shaken[0][0, 3:], calm[0, 3:])
    assert build("SPECTRAL.NOISE", 0.0).log_noise is None


def test_single_precision_under_autocast():
    module = build()
    features = quarters()
    expected = start(module, features).slots
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(tokens_of(features), {"s1": features}, any_images())
    assert found.slots.dtype == torch.float32
    torch.testing.assert_close(found.slots.norm(dim=-1), expected.norm(dim=-1), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("FEATURE", "keys", "the backbone has no output 'keys'; choose from s1, s2"),
        ("AFFINITY", "euclid", "choose from cosine, threshold, power"),
        ("COUNT", "many", "choose from eigengap, eigenvalues, all"),
        ("THRESHOLD", 1.5, "give a cosine"),
        ("POWER", 0.0, "above 0"),
        ("COLOR_WEIGHT", -1.0, "from 0 on"),
        ("COLOR_NEIGHBORS", 0, "at least 1"),
        ("MAX_TOKENS", 1, "at least 4"),
        ("MIN_SEEDS", 1, "at least 2"),
        ("MIN_SEEDS", SLOTS + 1, "none of the 6"),
        ("MIN_GAP", -0.1, "at least 0"),
        ("MIN_EIGENVALUE", 0.0, "in \\(0, 1\\]"),
        ("SOFTNESS", -1.0, "at least 0"),
        ("NOISE", -1.0, "at least 0"),
    ],
)
def test_impossible_options_are_refused_by_name(key, value, words):
    with pytest.raises(ConfigError, match=f"MODEL.SLOTS.SPECTRAL.{key}.*{words}"):
        build(f"SPECTRAL.{key}", value)
