"""Which losses a config switches on, and which are enough to learn from."""

import pytest
from detectron2.utils.events import EventStorage
from torch import nn

from slotseg import get_cfg
from slotseg.errors import ConfigError
from slotseg.losses import build_losses
from slotseg.losses.training_log import log_scalar, training_iteration


class Masks(nn.Module):
    """A decoder of masks alone."""


OFF = ["LOSSES.RECONSTRUCTION.WEIGHT", 0.0, "LOSSES.DIVERSITY.WEIGHT", 0.0]
HEAD = ["MODEL.HEAD.NAME", "PanopticHead"]
ALL = ["DIVERSITY", "MASKS", "CONTRASTIVE", "CONSISTENCY", "UNCERTAINTY"]


def build(*nodes, head=True):
    weights = [entry for node in nodes for entry in (f"LOSSES.{node}.WEIGHT", 1.0)]
    overrides = ["MODEL.DECODERS", ["Masks"], *OFF, *weights, *(HEAD if head else [])]
    return build_losses(get_cfg(overrides=overrides), nn.ModuleList([Masks()]))


@pytest.mark.parametrize("node", ALL[2:])
def test_every_loss_has_a_switch(node):
    losses = build("MASKS", node)
    assert list(losses) == ["masks", node.lower()]
    assert losses[node.lower()].names[0] == f"loss_{node.lower()}"


def test_all_at_once():
    assert set(build(*ALL)) == {node.lower() for node in ALL}


@pytest.mark.parametrize("node", ["DIVERSITY", "CONTRASTIVE", "CONSISTENCY"])
def test_slots_in_order_alone_are_nothing_to_learn(node):
    with pytest.raises(ConfigError, match=r"nothing to learn from.*LOSSES\.UNCERTAINTY\.WEIGHT"):
        build(node)


def test_classes_of_pixels_train_masks(caplog):
    assert list(build("UNCERTAINTY")) == ["uncertainty"]
    assert "no loss trains" not in caplog.text


def test_classes_are_compared_only_where_there_are_some():
    assert build("MASKS", "CONSISTENCY")["consistency"].names == (
        "loss_consistency",
        "loss_consistency_class",
    )
    without = build("MASKS", "CONSISTENCY", head=False)["consistency"]
    assert without.names == ("loss_consistency",)


def test_a_loss_outside_of_a_training_logs_nothing():
    assert training_iteration() is None
    log_scalar("uncertainty/kept", 0.5)
    with EventStorage(7) as storage:
        assert training_iteration() == 7
        log_scalar("uncertainty/kept", 0.25)
    assert storage.latest()["uncertainty/kept"] == (0.25, 7)
