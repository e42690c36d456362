"""Gradient clipping and norms on gradients set by hand."""

import pytest
import torch
from torch import nn

from slotseg.config import get_cfg
from slotseg.engine.gradients import build_gradient_clipper, gradient_norm, room_gradient_norms
from slotseg.errors import ConfigError


def parameters():
    """Norms 3 and 4, together 5."""
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([-4.0])
    return [first, second]


def clipper(*overrides):
    options = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, *overrides]
    return build_gradient_clipper(get_cfg(None, options))


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("full_model", [1.2, 0.0], [-1.6]),
        ("norm", [2.0, 0.0], [-2.0]),
        ("value", [2.0, 0.0], [-2.0]),
    ],
)
def test_kinds(kind, first, second):
    given = parameters()
    clip = clipper("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 2.0)
    assert clip(given).item() == pytest.approx(5.0)
    assert given[0].grad.tolist() == pytest.approx(first, rel=1e-5)
    assert given[1].grad.tolist() == pytest.approx(second, rel=1e-5)


def test_small_gradients_and_disabled_clipping_change_nothing():
    for clip in (
        clipper("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 6.0),
        build_gradient_clipper(get_cfg(None, ["SOLVER.CLIP_GRADIENTS.ENABLED", False])),
    ):
        given = parameters()
        assert clip(given).item() == pytest.approx(5.0)
        assert [p.grad.tolist() for p in given] == [[3.0, 0.0], [-4.0]]


def test_wrong_settings():
    with pytest.raises(ConfigError, match="CLIP_TYPE: unknown type 'all'"):
        clipper("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all")
    with pytest.raises(ConfigError, match="CLIP_VALUE: must be positive"):
        clipper("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0)


def test_norm_without_gradients_is_zero():
    assert gradient_norm([nn.Parameter(torch.ones(3))]).item() == 0.0


def test_rooms():
    model = nn.ModuleDict(
        {name: nn.Linear(1, 1, bias=False) for name in ("backbone", "tokens", "initializer")}
        | {"decoders": nn.Linear(1, 1, bias=False), "losses": nn.Identity()}
    )
    for value, name in enumerate(("backbone", "tokens", "initializer", "decoders"), start=2):
        model[name].weight.grad = torch.tensor([[float(value)]])
    norms = {name: norm.item() for name, norm in room_gradient_norms(model).items()}
    assert norms == pytest.approx({"backbone": 2.0, "slots": 5.0, "decoders": 5.0})
