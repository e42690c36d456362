"""Which parameters decay, and which optimiser moves them."""

import pytest
import torch
from torch import nn

from slotseg.config import get_cfg
from slotseg.engine.lr_schedule import build_lr_schedule
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


class Layered(nn.Module):
    """A backbone whose first layer learns at a quarter of the rate, and two decoders."""

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

        def learning_rate_factors(self):
            for parameter in self.first.parameters():
                yield parameter, 0.25

    def __init__(self):
        super().__init__()
        self.backbone = self.Backbone()
        self.decoders = nn.ModuleList(nn.Linear(2, 2) for _ in range(11))
        self.scale = nn.Parameter(torch.ones(1))


def rates(model, optimizer):
    by_parameter = {p: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    return {name: by_parameter[p] for name, p in model.named_parameters()}


def test_learning_rates_by_part():
    model = Layered()
    factors = ["decoders=3", "decoders.1=2.0", "backbone.=10", "scale=0.5"]
    cfg = get_cfg(None, ["SOLVER.BASE_LR", 1.0, "SOLVER.LR_FACTORS", factors])
    found = rates(model, build_optimizer(cfg, model))
    assert found["backbone.first.weight"] == found["backbone.first.bias"] == 2.5
    assert found["backbone.last.weight"] == 10.0
    assert found["decoders.1.weight"] == 2.0
    # Not a part of "decoders.1", though its name starts so.
    assert found["decoders.10.weight"] == found["decoders.0.bias"] == 3.0
    assert found["scale"] == 0.5


def test_the_first_group_has_the_base_rate_and_all_keep_their_decay():
    model = Layered()
    cfg = get_cfg(
        None,
        ["SOLVER.BASE_LR", 1.0, "SOLVER.WEIGHT_DECAY", 0.1]
        + ["SOLVER.LR_FACTORS", ["decoders=2.0"]],
    )
    groups = build_optimizer(cfg, model).param_groups
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("decayed", 1.0, 0.1),
        ("free", 1.0, 0.0),
        ("decayed, rate x 2", 2.0, 0.1),
        ("free, rate x 2", 2.0, 0.0),
        ("decayed, rate x 0.25", 0.25, 0.1),
        ("free, rate x 0.25", 0.25, 0.0),
    ]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_the_schedule_multiplies_every_rate_also_after_resuming():
    model = Layered()
    cfg = get_cfg(
        None,
        ["SOLVER.BASE_LR", 1.0, "SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 0]
        + ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.LR_FACTORS", ["decoders=2.0"]],
    )
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_schedule(cfg, optimizer)
    for _ in range(50):
        optimizer.step()
        schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
        [0.5, 0.5, 1, 1, 0.125, 0.125]
    )
    resumed = build_optimizer(cfg, model)
    other = build_lr_schedule(cfg, resumed)
    resumed.load_state_dict(optimizer.state_dict())
    other.load_state_dict(schedule.state_dict())
    assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in optimizer.param_groups]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("encoder=2.0", r"no parameter's name starts with 'encoder'.*backbone, decoders"),
        ("decoders", r"'decoders' should look like"),
        ("decoders=fast", r"'decoders=fast' should look like"),
        ("decoders=0", "a factor above 0"),
        ("=2.0", "should look like"),
    ],
)
def test_factors_that_mean_nothing(entry, message):
    with pytest.raises(ConfigError, match=rf"SOLVER\.LR_FACTORS: .*{message}"):
        build_optimizer(get_cfg(None, ["SOLVER.LR_FACTORS", [entry]]), Layered())
