"""The file that says which rungs a ladder has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotseg.comparison.definition_file import DefinitionReader, is_number
from slotseg.errors import ConfigError


@dataclass(frozen=True)
class Pretraining:
    """A training that makes weights for rungs.

    Attributes:
        name: for tables.
        config_file: of the training; it runs in the ``OUTPUT_DIR`` that this config names, so that
            rungs that are trained without the ladder find the same weights.
        weights_for: config key of the rungs that takes the file. A rung uses the weights if its
            config has a file there; the ladder replaces it by the one that it made, unless the file
            comes from an override.
    """

    name: str
    config_file: str
    weights_for: str


@dataclass(frozen=True)
class Rung:
    """One config.

    Attributes:
        name: for tables.
        config_file: of the training.
        gate: score to the smallest mean over seeds with which the next rung is climbed.
    """

    name: str
    config_file: str
    gate: dict[str, float]


@dataclass(frozen=True)
class Ladder:
    """Rungs, lowest first.

    Attributes:
        name: for titles.
        scores: shown, such as ``slots/ARI``; the first is the one that rungs are compared by.
        pretraining: done before the first rung.
        rungs: in the order of climbing.
    """

    name: str
    scores: tuple[str, ...]
    pretraining: tuple[Pretraining, ...]
    rungs: tuple[Rung, ...]

    def only(self, names: Sequence[str]) -> Ladder:
        """The ladder without all other rungs.

        Raises:
            ConfigError: a name that no rung has.
        """
        known = [rung.name for rung in self.rungs]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(
                f"--only: no rung is called {unknown[0]!r}; choose from {', '.join(known)}"
            )
        chosen = tuple(rung for rung in self.rungs if rung.name in names)
        return Ladder(self.name, self.scores, self.pretraining, chosen)


def read_ladder(path: str) -> Ladder:
    """Read a ladder from a YAML file::

        name: CLEVR, generated scenes
        scores: [slots/ARI, slots/FG-ARI]
        pretraining:
          - {config: ../pretrain/vit.yaml, weights_for: MODEL.VIT.WEIGHTS}
        rungs:
          - {config: 0_baseline.yaml, gate: {slots/ARI: 0.8}}
          - {config: 1_dinov2.yaml}

    Configs are relative to the file. Names are those of the configs' files unless an entry has a
    ``name``; ``gate`` and ``pretraining`` may be left out.

    Raises:
        ConfigError: the file cannot be read or is not such a file; the message says where.
    """
    reader = _Reader(path, explained_in="slotseg.ladder.read_ladder")
    entries = reader.keys(reader.load(), "the file", {"name", "scores", "rungs"}, {"pretraining"})
    scores = entries["scores"]
    if not isinstance(scores, list) or not scores or not all(map(_is_score, scores)):
        raise reader.error("scores: expected a list of names such as slots/ARI or panoptic/PQ")
    rungs = tuple(reader.rung(entry, index) for index, entry in enumerate(entries["rungs"] or ()))
    pretraining = tuple(
        reader.pretraining(entry, index) for index, entry in enumerate(entries["pretraining"] or ())
    )
    if not rungs:
        raise reader.error("rungs: there are none")
    names = [step.name for step in (*pretraining, *rungs)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise reader.error(f"{', '.join(twice)} names two entries; give one of them a name")
    return Ladder(str(entries["name"]), tuple(scores), pretraining, rungs)


class _Reader(DefinitionReader):
    """What a ladder's file holds."""

    def rung(self, entry: Any, index: int) -> Rung:
        place = f"rung {index}"
        found = self.keys(entry, place, {"config"}, {"name", "gate"})
        gate = {} if found["gate"] is None else found["gate"]
        if not isinstance(gate, Mapping) or not all(
            _is_score(name) and is_number(value) for name, value in gate.items()
        ):
            raise self.error(f"{place}: gate: expected scores and numbers, as {{slots/ARI: 0.5}}")
        config = self._config(found["config"], place)
        return Rung(
            str(found["name"] or _stem(config)), config, {k: float(v) for k, v in gate.items()}
        )

    def pretraining(self, entry: Any, index: int) -> Pretraining:
        place = f"pretraining {index}"
        found = self.keys(entry, place, {"config", "weights_for"}, {"name"})
        config = self._config(found["config"], place)
        return Pretraining(str(found["name"] or _stem(config)), config, str(found["weights_for"]))

    def _config(self, name: Any, place: str) -> str:
        if not isinstance(name, str) or not name:
            raise self.error(f"{place}: config: expected the name of a file, got {name!r}")
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(self.path)), name))


def _is_score(name: Any) -> bool:
    return isinstance(name, str) and name.partition("/")[0] in ("slots", "panoptic") and "/" in name


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
