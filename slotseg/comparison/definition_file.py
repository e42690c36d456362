"""YAML files that say what is to be run: read strictly, with errors that name file and entry."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import yaml
from detectron2.utils.file_io import PathManager

from slotseg.errors import ConfigError


class DefinitionReader:
    """Entries of one file, with messages that name it.

    Args:
        path: of the file.
        explained_in: the function whose documentation says what the file may hold.
    """

    def __init__(self, path: str, explained_in: str) -> None:
        self.path = path
        self._explained_in = explained_in

    def load(self) -> Any:
        """The file's content.

        Raises:
            ConfigError: it cannot be read, is no YAML, or has a key twice.
        """
        try:
            with PathManager.open(self.path, "r") as file:
                return yaml.load(file, Loader=_StrictLoader)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            told = " ".join(str(error).split())
            raise ConfigError(f"{self.path}: not valid YAML: {told}") from error

    def error(self, message: str) -> ConfigError:
        """What is wrong in the file, to be raised."""
        return ConfigError(f"{self.path}: {message}; see {self._explained_in}")

    def keys(
        self, entry: Any, place: str, required: set[str], optional: set[str]
    ) -> dict[str, Any]:
        """The entry's values, None for what is left out.

        Raises:
            ConfigError: it is no mapping, lacks something or has something unknown.
        """
        if not isinstance(entry, Mapping):
            raise self.error(f"{place} is no mapping of keys to values")
        missing = sorted(key for key in required if entry.get(key) is None)
        unknown = sorted(str(key) for key in entry.keys() - required - optional)
        if missing:
            raise self.error(f"{place} lacks {', '.join(missing)}")
        if unknown:
            known = ", ".join(sorted(required | optional))
            raise self.error(f"{place} has unknown {', '.join(unknown)}, expected {known}")
        return {key: entry.get(key) for key in required | optional}


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number, which True and False are not."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(float(value))
    )


class _StrictLoader(yaml.SafeLoader):
    """Says so where a key stands twice; YAML itself takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} stands there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
