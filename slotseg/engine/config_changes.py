"""What a resumed run does otherwise than before."""

from __future__ import annotations

from typing import Any

import yaml

# A run's folder may be moved.
_IRRELEVANT = {"OUTPUT_DIR"}


def config_changes(before: str, now: str) -> list[str]:
    """One line for every key that two configs, as YAML text, both have with another value."""
    old, new = (_flatten(yaml.safe_load(text) or {}) for text in (before, now))
    return [
        f"{key} was {old[key]} and is now {value}"
        for key, value in new.items()
        if key in old and old[key] != value and key not in _IRRELEVANT
    ]


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        flat |= _flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat
