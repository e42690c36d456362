"""How much each loss counts in the sum that is learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.losses.masks import MaskLoss
from slotseg.losses.training_log import log_scalar


class FixedWeighting(nn.Module):
    """Every loss counts as its weight in the config says."""

    def forward(self, losses: dict[str, Tensor], *, learn: bool = True) -> dict[str, Tensor]:
        """The losses as they are."""
        return losses


class UncertaintyWeighting(nn.Module):
    """Learnt weights: ``exp(-s) L + s / 2`` for every loss L with a log variance s of its own.

    This is the form of Kendall et al. (2018, equation 10) for classification, ``L / sigma^2 + log
    sigma`` with ``s = log sigma^2``; they learn s too, so that nothing is divided by zero. All s
    start at 0, where the sum is that of the losses with their weights in the config. Left alone, a
    loss that stays at L gets the weight ``1 / (2 L)``: losses end up of equal size, whatever their
    units. The price is that what cannot be learnt counts as much as what can.

    Before every use the log variances are brought back within the limit, or a loss that reaches 0
    would be multiplied without end.

    An auxiliary loss (``loss_auxiliary_x``, of earlier iterations) shares the log variance of
    ``loss_x``: between the two the weight in the config decides.

    What labels that a model made up leave of a loss says how sure that model was, not how hard the
    task is: losses on them take the weights as they are, and teach them nothing.

    The parameters are scalars, and so without weight decay (see
    :func:`slotseg.engine.optimizer.parameter_groups`). They learn at the rate of the rest;
    ``SOLVER.LR_FACTORS`` ``["weighting=10.0"]`` makes them quicker, which short trainings need.

    Args:
        names: of the losses.
        limit: largest absolute log variance, above 0.
    """

    def __init__(self, names: Sequence[str], limit: float) -> None:
        super().__init__()
        if limit <= 0.0:
            raise ConfigError(
                f"LOSSES.WEIGHTING.MAX_LOG_VARIANCE: {limit} should be above 0; weights stay "
                "between exp(-MAX_LOG_VARIANCE) and exp(MAX_LOG_VARIANCE)"
            )
        self.limit = limit
        self.log_variances = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in names}
        )

    def forward(self, losses: dict[str, Tensor], *, learn: bool = True) -> dict[str, Tensor]:
        """The losses times their weights, and ``loss_weighting``, the sum of all ``s / 2``.

        Logs every weight as ``weights/<name>``.

        Args:
            losses: by name.
            learn: False: the weights get no gradient, and there is no ``loss_weighting``.

        Raises:
            KeyError: a loss whose name nobody announced.
        """
        self._stay_within_the_limit()
        variances = {name: self._log_variance(name) for name in losses}
        if not learn:
            return {name: (-variances[name].detach()).exp() * loss for name, loss in losses.items()}
        self._log(variances)
        weighted = {name: (-variances[name]).exp() * loss for name, loss in losses.items()}
        return {**weighted, "loss_weighting": 0.5 * torch.stack([*variances.values()]).sum()}

    def _log_variance(self, name: str) -> Tensor:
        """Scalar s of the loss of this name."""
        known = name.replace("loss_auxiliary_", "loss_")
        if known not in self.log_variances:
            raise KeyError(f"{name}: no loss announced it by its attribute `names`")
        return self.log_variances[known]

    @torch.no_grad()
    def _stay_within_the_limit(self) -> None:
        # Rather than of the value that is used: there the gradient would end, and s stick.
        for parameter in self.log_variances.values():
            parameter.clamp_(-self.limit, self.limit)

    @torch.no_grad()
    def _log(self, variances: dict[str, Tensor]) -> None:
        # One wait for the device instead of one a loss.
        weights = (-torch.stack([*variances.values()])).exp().tolist()
        for name, weight in zip(variances, weights, strict=True):
            log_scalar(f"weights/{name.removeprefix('loss_')}", weight)


def build_weighting(cfg: CfgNode, losses: nn.ModuleDict) -> nn.Module:
    """``LOSSES.WEIGHTING`` for these losses; see :func:`slotseg.losses.build_losses`.

    Raises:
        ConfigError: an unknown name, or a limit that is not above 0.
    """
    node = cfg.LOSSES.WEIGHTING
    if node.NAME == "fixed":
        return FixedWeighting()
    if node.NAME == "uncertainty":
        names = [name for loss in losses.values() for name in _names(loss)]
        return UncertaintyWeighting(names, node.MAX_LOG_VARIANCE)
    raise ConfigError(
        f"LOSSES.WEIGHTING.NAME: {node.NAME!r} is unknown; choose fixed or uncertainty"
    )


def _names(loss: nn.Module) -> tuple[str, ...]:
    """The names under which a loss returns scalars, but for those of earlier iterations."""
    if not isinstance(loss, MaskLoss):
        return loss.names
    with_classes = ("loss_class",) if loss.classes is not None else ()
    with_attention = (
        ("loss_attention_pixel", "loss_attention_dice") if loss.attention_weight > 0 else ()
    )
    return ("loss_mask_pixel", "loss_mask_dice", *with_classes, *with_attention)
