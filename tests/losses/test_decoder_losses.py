"""Losses on what decoders make, and which of them need each other."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from slotseg import get_cfg
from slotseg.decoders import Decoded, Regression
from slotseg.errors import ConfigError
from slotseg.losses import build_losses

OFF = ["LOSSES.RECONSTRUCTION.WEIGHT", 0.0]


class Fake(nn.Module):
    def __init__(self, **makes):
        super().__init__()
        self.__dict__.update(makes)


BROADCAST = {"makes_masks": True, "makes_reconstruction": True}
PRODUCT = {"makes_masks": True, "makes_reconstruction": False}
FEATURES = {**PRODUCT, "makes_features": True}
DIFFUSION = {"makes_masks": False, "makes_reconstruction": False, "makes_noise": True}


def build(decoders, *overrides):
    names = [f"Decoder{number}" for number in range(len(decoders))]
    cfg = get_cfg(overrides=["MODEL.DECODERS", names, *overrides])
    return build_losses(cfg, nn.ModuleList(Fake(**makes) for makes in decoders))


def regression(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return Regression(torch.randn(shape, generator=generator), torch.randn(shape))


@pytest.mark.parametrize(
    ("node", "field"), [("FEATURES", "features"), ("DIFFUSION", "noise")], ids=["mlp", "diffusion"]
)
def test_weighted_mean_squared_error_summed_over_decoders(node, field):
    losses = build(
        [PRODUCT, FEATURES, DIFFUSION],
        *OFF, "LOSSES.FEATURES.WEIGHT", 0.5, "LOSSES.DIFFUSION.WEIGHT", 0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    pairs = [regression((2, 3, 4, 4), seed) for seed in (1, 2)]
    decoded = [Decoded(), *(Decoded(**{field: pair}) for pair in pairs)]
    made = losses[node.lower()](SimpleNamespace(decoded=decoded))
    expected = sum((pair.prediction - pair.target).square().mean() for pair in pairs)
    assert list(made) == [f"loss_{node.lower()}"]
    torch.testing.assert_close(made[f"loss_{node.lower()}"], 0.5 * expected)


@pytest.mark.parametrize(
    ("decoders", "node", "example"),
    [
        ([PRODUCT], "RECONSTRUCTION", "SpatialBroadcastDecoder"),
        ([BROADCAST], "FEATURES", "FeatureMLPDecoder"),
        ([BROADCAST], "DIFFUSION", "LatentDiffusionDecoder"),
    ],
    ids=["reconstruction", "features", "diffusion"],
)
def test_a_loss_needs_a_decoder_that_serves_it(decoders, node, example):
    with pytest.raises(ConfigError, match=rf"LOSSES\.{node}\.WEIGHT is above 0.*add {example}"):
        build(decoders, f"LOSSES.{node}.WEIGHT", 1.0)


def test_nothing_to_learn_from():
    with pytest.raises(ConfigError, match=r"nothing to learn from.*LOSSES\.DIFFUSION\.WEIGHT"):
        build([BROADCAST], *OFF)


def test_each_signal_is_enough_alone():
    assert list(build([BROADCAST])) == ["reconstruction", "diversity"]
    assert list(build([FEATURES], *OFF, "LOSSES.FEATURES.WEIGHT", 1.0)) == ["features", "diversity"]
    assert list(build([PRODUCT], *OFF, "LOSSES.MASKS.WEIGHT", 1.0)) == ["masks", "diversity"]
    assert list(build([PRODUCT, DIFFUSION], *OFF, "LOSSES.DIFFUSION.WEIGHT", 1.0)) == [
        "diffusion",
        "diversity",
    ]


def test_masks_that_no_loss_trains_are_warned_of(caplog):
    build([PRODUCT, DIFFUSION], *OFF, "LOSSES.DIFFUSION.WEIGHT", 1.0)
    assert "no loss trains the masks of Decoder0" in caplog.text
    caplog.clear()
    both = ["LOSSES.DIFFUSION.WEIGHT", 1.0, "LOSSES.FEATURES.WEIGHT", 1.0]
    build([FEATURES, DIFFUSION], *OFF, *both)
    build([PRODUCT, DIFFUSION], *OFF, "LOSSES.DIFFUSION.WEIGHT", 1.0, "LOSSES.MASKS.WEIGHT", 1.0)
    assert caplog.text == ""


def test_a_further_decoder_that_no_loss_trains_is_refused():
    with pytest.raises(ConfigError, match=r"no loss trains Decoder1; set LOSSES\.DIFFUSION"):
        build([BROADCAST, DIFFUSION])
    # The first one's masks are wanted, whatever else it could make.
    assert "masks" in build([FEATURES], *OFF, "LOSSES.MASKS.WEIGHT", 1.0)
