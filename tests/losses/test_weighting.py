"""The room in which losses are weighed against each other."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from slotseg import get_cfg
from slotseg.engine.optimizer import build_optimizer
from slotseg.errors import ConfigError
from slotseg.losses import FixedWeighting, UncertaintyWeighting, build_weighting

ADAPTIVE = ["LOSSES.WEIGHTING.NAME", "uncertainty"]
TINY = [
    "MODEL.DEVICE", "cpu",
    "MODEL.SIMPLE_CNN.CHANNELS", [8, 8],
    "MODEL.SIMPLE_CNN.STRIDES", [2, 1],
    "MODEL.SLOTS.IN_FEATURE", "s2",
    "MODEL.SLOTS.NUM_SLOTS", 4,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.SPATIAL_BROADCAST.CHANNELS", [8, 8],
    "MODEL.SPATIAL_BROADCAST.STRIDES", [2, 2],
]  # fmt: skip


def batch(size=(16, 16)):
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "file_name": f"{number}.png",
            "image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8),
            "segment_map": torch.randint(0, 3, size, generator=generator),
        }
        for number in range(2)
    ]


def set_log_variance(weighting, name, value):
    with torch.no_grad():
        weighting.log_variances[name].fill_(value)


def test_fixed_weights_change_nothing():
    weighting = build_weighting(get_cfg(), nn.ModuleDict())
    assert isinstance(weighting, FixedWeighting)
    losses = {"loss_a": torch.tensor(2.0)}
    assert weighting(losses) == losses
    assert weighting.state_dict() == {}


def test_at_the_start_the_sum_is_as_without():
    losses = {"loss_a": torch.tensor(2.0), "loss_b": torch.tensor(0.5)}
    weighted = UncertaintyWeighting(["loss_a", "loss_b"], limit=3.0)(losses)
    assert {k: v.item() for k, v in weighted.items()} == {
        "loss_a": 2.0, "loss_b": 0.5, "loss_weighting": 0.0
    }  # fmt: skip


def test_values_and_gradients_by_hand():
    weighting = UncertaintyWeighting(["loss_a", "loss_b"], limit=3.0)
    set_log_variance(weighting, "loss_a", 1.0)
    set_log_variance(weighting, "loss_b", -0.5)
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    with EventStorage() as storage:
        weighted = weighting({"loss_a": a, "loss_b": b})
    assert weighted["loss_a"].item() == pytest.approx(2 * math.exp(-1), rel=1e-5)
    assert weighted["loss_b"].item() == pytest.approx(3 * math.exp(0.5), rel=1e-5)
    assert weighted["loss_weighting"].item() == pytest.approx((1.0 - 0.5) / 2, rel=1e-5)
    shown = storage.latest()
    assert shown["weights/a"][0] == pytest.approx(math.exp(-1), rel=1e-5)
    assert shown["weights/b"][0] == pytest.approx(math.exp(0.5), rel=1e-5)
    sum(weighted.values()).backward()
    assert a.grad.item() == pytest.approx(math.exp(-1), rel=1e-5)
    # d/ds (exp(-s) L + s/2).
    expected = 0.5 - 2 * math.exp(-1)
    assert weighting.log_variances["loss_a"].grad.item() == pytest.approx(expected, rel=1e-4)


def test_losses_of_any_unit_end_up_at_one_half():
    weighting = UncertaintyWeighting(["loss_a", "loss_b", "loss_c"], limit=5.0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.1)
    losses = {f"loss_{k}": torch.tensor(v) for k, v in {"a": 0.03, "b": 1.0, "c": 20.0}.items()}
    for _ in range(400):
        optimizer.zero_grad()
        weighted = weighting(losses)
        sum(weighted.values()).backward()
        optimizer.step()
    for name in losses:
        assert weighted[name].item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 1e6], ids=["nothing-left", "huge"])
def test_weights_stay_within_the_limit_and_come_back(value):
    weighting = UncertaintyWeighting(["loss_a"], limit=3.0)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    seen = []
    for loss in [value] * 30 + [0.5] * 100:
        optimizer.zero_grad()
        weighted = weighting({"loss_a": torch.tensor(loss)})
        seen.append(2 * weighted["loss_weighting"].item())
        sum(weighted.values()).backward()
        nn.utils.clip_grad_norm_(weighting.parameters(), 0.5)
        optimizer.step()
    assert max(map(abs, seen)) == abs(seen[29]) == 3.0
    # At 0.5 the best weight is 1.
    assert seen[-1] == pytest.approx(0.0, abs=0.01)


def test_losses_of_earlier_iterations_share_the_weight():
    weighting = UncertaintyWeighting(["loss_mask_dice"], limit=3.0)
    set_log_variance(weighting, "loss_mask_dice", 1.0)
    weighted = weighting(
        {"loss_mask_dice": torch.tensor(1.0), "loss_auxiliary_mask_dice": torch.tensor(4.0)}
    )
    assert weighted["loss_auxiliary_mask_dice"].item() == pytest.approx(4 / math.e, rel=1e-5)
    # Its s counts once for each loss that it weighs, so that two equal losses weigh as one alone.
    assert weighted["loss_weighting"].item() == pytest.approx(1.0, rel=1e-5)


def test_weights_that_do_not_learn_count_as_they_are():
    weighting = UncertaintyWeighting(["loss_a"], limit=3.0)
    set_log_variance(weighting, "loss_a", 1.0)
    loss = torch.tensor(2.0, requires_grad=True)
    weighted = weighting({"loss_a": loss}, learn=False)
    assert list(weighted) == ["loss_a"]
    weighted["loss_a"].backward()
    assert loss.grad.item() == pytest.approx(math.exp(-1), rel=1e-5)
    assert weighting.log_variances["loss_a"].grad is None


def test_a_loss_that_nobody_announced_is_an_error():
    with pytest.raises(KeyError, match="loss_b: no loss announced it"):
        UncertaintyWeighting(["loss_a"], limit=3.0)({"loss_b": torch.tensor(1.0)})


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"LOSSES\.WEIGHTING\.NAME: 'random' is unknown"):
        build_weighting(get_cfg(overrides=["LOSSES.WEIGHTING.NAME", "random"]), nn.ModuleDict())
    with pytest.raises(ConfigError, match=r"LOSSES\.WEIGHTING\.MAX_LOG_VARIANCE: 0\.0"):
        build_weighting(
            get_cfg(overrides=[*ADAPTIVE, "LOSSES.WEIGHTING.MAX_LOG_VARIANCE", 0.0]),
            nn.ModuleDict(),
        )


EVERY_LOSS = [
    "LOSSES.MASKS.WEIGHT", 1.0, "LOSSES.MASKS.ATTENTION_WEIGHT", 1.0,
    "LOSSES.MASKS.AUXILIARY_WEIGHT", 1.0, "LOSSES.CONTRASTIVE.WEIGHT", 0.1,
    "LOSSES.CONSISTENCY.WEIGHT", 0.1,
]  # fmt: skip


def test_in_the_model_every_loss_has_a_weight_that_learns_without_decay():
    torch.manual_seed(0)
    cfg = get_cfg(overrides=[*TINY, *ADAPTIVE, *EVERY_LOSS, "SOLVER.WEIGHT_DECAY", 0.1])
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    own = dict(model.weighting.log_variances.items())
    assert all(decay[parameter] == 0.0 for parameter in own.values())
    losses = model(batch())
    assert {name.replace("loss_auxiliary_", "loss_") for name in losses} == {
        *own, "loss_weighting"
    }  # fmt: skip
    sum(losses.values()).backward()
    assert all(parameter.grad.abs() > 0 for parameter in own.values())
    optimizer.step()
    assert all(parameter.abs() > 0 for parameter in own.values())
    # They travel with the checkpoint.
    again = build_model(cfg)
    again.load_state_dict(model.state_dict())
    for name, parameter in own.items():
        assert torch.equal(again.weighting.log_variances[name], parameter)


def test_labels_that_a_model_made_up_teach_the_weights_nothing():
    torch.manual_seed(0)
    model = build_model(get_cfg(overrides=[*TINY, *ADAPTIVE, *EVERY_LOSS]))
    # Nearly void: all losses but the reconstruction's are next to nothing.
    made_up = [
        {
            **sample,
            "segment_map": torch.full_like(sample["segment_map"], -1),
            "segment_is_object": torch.zeros(0, dtype=torch.bool),
            "segment_confidence": torch.zeros(0),
        }
        for sample in batch()
    ]
    losses = model(made_up)
    assert "loss_weighting" not in losses and losses["loss_reconstruction"] > 0
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.weighting.log_variances.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())


def test_the_rate_of_the_weights_can_be_another():
    cfg = get_cfg(overrides=[*TINY, *ADAPTIVE, "SOLVER.LR_FACTORS", ["weighting=10.0"]])
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    rate = {p: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert {rate[p] for p in model.weighting.parameters()} == {10 * cfg.SOLVER.BASE_LR}
    assert {rate[p] for p in model.backbone.parameters()} == {cfg.SOLVER.BASE_LR}
