import pytest
import torch

from slotseg import get_cfg
from slotseg.errors import ConfigError
from slotseg.ops.similarity import mean_pairwise_cosine
from slotseg.slots import (
    GaussianInitializer,
    LearnedInitializer,
    OrthogonalInitializer,
    Tokens,
    build_slot_grouping,
    build_slot_initializer,
)

TOKENS = Tokens(torch.zeros(3, 4, 16), (2, 2))


def start(module):
    return module(TOKENS, {}, torch.zeros(0)).slots


def test_gaussian_slots_follow_the_shared_mean_and_deviation():
    torch.manual_seed(0)
    module = GaussianInitializer(num_slots=4000, dim=4)
    with torch.no_grad():
        module.mean.copy_(torch.tensor([[[0.0, 1.0, -2.0, 5.0]]]))
        module.log_std.copy_(torch.tensor([[[0.0, 0.5, -1.0, 1.0]]]))
        slots = start(module).flatten(0, 1)
    torch.testing.assert_close(slots.mean(0), module.mean[0, 0], atol=0.1, rtol=0.0)
    torch.testing.assert_close(slots.std(0), module.log_std[0, 0].exp(), atol=0.1, rtol=0.0)


def test_gaussian_slots_differ_between_slots_images_and_calls_but_not_between_seeds():
    module = GaussianInitializer(num_slots=5, dim=16)
    torch.manual_seed(3)
    first, second = start(module), start(module)
    torch.manual_seed(3)
    assert torch.equal(first, start(module))
    assert not torch.equal(first, second)
    assert torch.unique(first.detach().flatten(0, 1), dim=0).shape[0] == 15


@pytest.mark.parametrize("kind", [LearnedInitializer, OrthogonalInitializer])
def test_learnt_slots_are_the_same_for_every_image_and_get_gradients(kind):
    module = kind(num_slots=5, dim=16)
    slots = start(module)
    assert slots.shape == (3, 5, 16)
    assert torch.equal(slots[0], slots[2])
    slots.sum().backward()
    torch.testing.assert_close(module.queries.grad, torch.full((5, 16), 3.0))


def test_orthogonal_slots_start_orthonormal():
    queries = OrthogonalInitializer(num_slots=16, dim=16).queries
    torch.testing.assert_close(queries @ queries.T, torch.eye(16), atol=1e-5, rtol=0.0)
    assert mean_pairwise_cosine(queries.unsqueeze(0)).item() < 1e-5


def test_more_orthogonal_slots_than_dimensions_are_refused():
    with pytest.raises(ConfigError, match="NUM_SLOTS 17 exceeds MODEL.SLOTS.DIM 16"):
        OrthogonalInitializer(num_slots=17, dim=16)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda cfg: build_slot_initializer(cfg, {}), "MODEL.SLOTS.INITIALIZER.NAME"),
        (build_slot_grouping, "MODEL.SLOTS.GROUPING.NAME"),
    ],
    ids=["initializer", "grouping"],
)
def test_an_unknown_name_lists_the_known_ones(build, key):
    cfg = get_cfg(overrides=[key, "Nonsense"])
    with pytest.raises(ConfigError, match=f"{key}: 'Nonsense' is not registered; choose from .+"):
        build(cfg)
