"""Which parameters decay, and which optimiser moves them."""

import pytest
import torch
from torch import nn

from slotseg.config import get_cfg
from slotseg.engine.optimizer import build_optimizer, parameter_groups
from slotseg.errors import ConfigError


class Rooms(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.gru = nn.GRUCell(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.embedding = nn.Embedding(5, 4)
        self.slots = nn.Parameter(torch.randn(1, 5, 4))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.same_conv = self.conv


def test_groups():
    model = Rooms()
    groups = {g["name"]: g for g in parameter_groups(model, weight_decay=0.1)}
    names = {id(p): n for n, p in model.named_parameters()}
    assert {k: {names[id(p)] for p in g["params"]} for k, g in groups.items()} == {
        "decayed": {
            "conv.weight",
            "gru.weight_ih",
            "gru.weight_hh",
            "attention.in_proj_weight",
            "attention.out_proj.weight",
        },
        "norms": {"norm.weight", "norm.bias"},
        "free": {
            "conv.bias",
            "gru.bias_ih",
            "gru.bias_hh",
            "attention.in_proj_bias",
            "attention.out_proj.bias",
            "embedding.weight",
            "slots",
        },
    }
    assert {k: g["weight_decay"] for k, g in groups.items()} == {
        "decayed": 0.1,
        "norms": 0.0,
        "free": 0.0,
    }


def test_only_matrices_shrink_without_a_gradient():
    model = Rooms()
    cfg = get_cfg(None, ["SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.BASE_LR", 0.1])
    optimizer = build_optimizer(cfg, model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(model.conv.weight, before["conv.weight"] * (1 - 0.1 * 0.5))
    for name in ("slots", "embedding.weight", "conv.bias", "norm.weight"):
        assert torch.equal(dict(model.named_parameters())[name], before[name])


@pytest.mark.parametrize(
    ("name", "kind", "setting"),
    [
        ("AdamW", torch.optim.AdamW, {"betas": (0.8, 0.95)}),
        ("Adam", torch.optim.Adam, {"betas": (0.8, 0.95)}),
        ("SGD", torch.optim.SGD, {"momentum": 0.7, "nesterov": True}),
    ],
)
def test_kinds(name, kind, setting):
    cfg = get_cfg(
        None,
        ["SOLVER.OPTIMIZER", name, "SOLVER.BETAS", (0.8, 0.95), "SOLVER.BASE_LR", 0.25]
        + ["SOLVER.MOMENTUM", 0.7, "SOLVER.NESTEROV", True],
    )
    optimizer = build_optimizer(cfg, Rooms())
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == 0.25
        assert {key: group[key] for key in setting} == setting


def test_unknown_optimizer_and_nothing_to_train():
    with pytest.raises(ConfigError, match=r"SOLVER\.OPTIMIZER.*'Lion'.*AdamW, Adam or SGD"):
        build_optimizer(get_cfg(None, ["SOLVER.OPTIMIZER", "Lion"]), Rooms())
    with pytest.raises(ConfigError, match="no trainable parameter"):
        build_optimizer(get_cfg(), nn.Linear(2, 2).requires_grad_(False))
