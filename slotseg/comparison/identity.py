"""When two runs are the same run: what their folders are called, and what must not have changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

import slotseg
from slotseg.config import get_cfg
from slotseg.engine.config_changes import config_changes
from slotseg.engine.time_budget import SCALED
from slotseg.errors import ConfigError

# What fitting a schedule to a budget sets, and what does not change a result.
_FITTED = (
    "SEED", "OUTPUT_DIR", "MODEL.DEVICE", "SOLVER.MAX_ITER", "SOLVER.STEPS",
    "SOLVER.HALVING_PERIOD", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD",
    *SCALED,
)  # fmt: skip


def config_key(cfg: CfgNode, *settings: Any) -> str:
    """Eight hexadecimal digits that change whenever another result could come out.

    Args:
        cfg: of the run; its seed and its folder do not count.
        settings: what else decides, as JSON takes it.
    """
    return _digest([_neutral(cfg).dump(), slotseg.__version__, *settings])


def lasting_key(cfg: CfgNode, *settings: Any) -> str:
    """As :func:`config_key`, but of the options alone that differ from their defaults.

    A new option does not make the runs of yesterday others, so that a comparison can be gone on
    with after an update. What the update must not do is change a default; that is for
    :func:`require_same_defaults` to find.
    """
    chosen = _differences(yaml.safe_load(_neutral(cfg).dump()), yaml.safe_load(get_cfg().dump()))
    return _digest([chosen, slotseg.__version__, *settings])


def require_same_defaults(folder: str, cfg: CfgNode) -> None:
    """Refuse to go on with the run in ``folder`` if an option has another value now.

    Raises:
        ConfigError: naming the first one.
    """
    path = os.path.join(folder, "config.yaml")
    if not PathManager.isfile(path):
        return
    with PathManager.open(path, "r") as file:
        before = file.read()
    for change in config_changes(before, cfg.dump()):
        if change.partition(" ")[0] not in _FITTED:
            raise ConfigError(f"{folder}: in this run {change}; choose another --output")


def file_name(name: str) -> str:
    """A model's name as part of a path."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_") or "model"


def _neutral(cfg: CfgNode) -> CfgNode:
    neutral = cfg.clone()
    neutral.defrost()
    neutral.OUTPUT_DIR, neutral.SEED = "", 0
    return neutral


def _differences(node: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in node.items():
        usual = default.get(key)
        if isinstance(value, dict) and isinstance(usual, dict):
            value, usual = _differences(value, usual), {}
        if key not in default or value != usual:
            found[key] = value
    return found


def _digest(content: list[Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
