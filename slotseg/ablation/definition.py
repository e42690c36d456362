"""The file that says what an ablation tries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slotseg.comparison.definition_file import DefinitionReader, is_number
from slotseg.errors import ConfigError

_SCORES = ("panoptic/PQ", "panoptic/PQ_things", "panoptic/PQ_stuff")


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: for tables.
        settings: config key -> value, on top of the study's, those of the variants that it builds
            on included.
        reason: why it is tried or what is expected of it, one line; may be empty.
    """

    name: str
    settings: dict[str, Any]
    reason: str = ""


@dataclass(frozen=True)
class Curve:
    """An option at whose every value all variants are run.

    Attributes:
        key: of the config.
        values: numbers, rising.
        label: what they are, for the axis.
    """

    key: str
    values: tuple[float, ...]
    label: str


@dataclass(frozen=True)
class Study:
    """What is compared with what.

    Attributes:
        path: of the file, for messages.
        name: for titles.
        config_file: that all variants build on.
        settings: config key -> value, for all variants.
        scores: shown, such as ``panoptic/PQ``; the first is the one that differences are told of.
        reference: name of the variant that all others are compared with.
        variants: in the order of the table.
        curve: None: every variant is run as it is.
    """

    path: str
    name: str
    config_file: str
    settings: dict[str, Any]
    scores: tuple[str, ...]
    reference: str
    variants: tuple[Variant, ...]
    curve: Curve | None = None

    def only(self, names: Sequence[str]) -> Study:
        """The study without all variants but these and the reference.

        Raises:
            ConfigError: a name that no variant has.
        """
        known = [variant.name for variant in self.variants]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(
                f"--only: {self.path} has no variant {unknown[0]!r}; choose from {', '.join(known)}"
            )
        kept = {*names, self.reference}
        return replace(self, variants=tuple(v for v in self.variants if v.name in kept))


def read_study(path: str) -> Study:
    """Read a study from a YAML file::

        name: 10 % labels, generated streets
        config: ../cityscapes/slot_peaks_generated.yaml
        overrides: {DATASETS.LABELED_FRACTION: 0.1}
        reference: supervised
        variants:
          - name: supervised
          - name: colours
            overrides: {INPUT.COLOR_JITTER.BRIGHTNESS: 0.4}
            reason: few images are soon known by heart
          - name: colours, slowly
            with: [colours]
            overrides: {SOLVER.BASE_LR: 0.001}

    ``config`` is relative to the file. ``with`` names variants further up whose overrides count
    too; where two of them disagree the variant has to say itself which value it wants. May be left
    out: ``overrides``, ``with``, ``reason`` (one line for the table), ``reference`` (the first
    variant), ``scores`` (panoptic quality of all, things and stuff; ``student/panoptic/PQ`` is that
    of the student where a teacher is scored) and ``curve``, such as
    ``{key: DATASETS.LABELED_IMAGES, values: [20, 50, 100], label: labelled images}``: all variants
    at every value, each compared with the reference at the same value.

    Raises:
        ConfigError: the file cannot be read or is not such a file; the message says where.
    """
    reader = _Reader(path, explained_in="slotseg.ablation.read_study")
    found = reader.keys(
        reader.load(),
        "the file",
        {"name", "config", "variants"},
        {"overrides", "scores", "reference", "curve"},
    )
    if not isinstance(found["config"], str) or not found["config"]:
        raise reader.error(f"config: expected the name of a file, got {found['config']!r}")
    variants = reader.variants(found["variants"])
    names = [variant.name for variant in variants]
    reference = names[0] if found["reference"] is None else str(found["reference"])
    if reference not in names:
        raise reader.error(f"reference: no variant is called {reference!r}: {', '.join(names)}")
    folder = os.path.dirname(os.path.abspath(path))
    return Study(
        path=path,
        name=str(found["name"]),
        config_file=os.path.normpath(os.path.join(folder, found["config"])),
        settings=reader.settings(found["overrides"], "the file"),
        scores=reader.scores(found["scores"]),
        reference=reference,
        variants=variants,
        curve=reader.curve(found["curve"]),
    )


class _Reader(DefinitionReader):
    """What a study's file holds."""

    def variants(self, entries: Any) -> tuple[Variant, ...]:
        if not isinstance(entries, list) or not entries:
            raise self.error("variants: expected a list of them")
        variants: dict[str, Variant] = {}
        for index, entry in enumerate(entries):
            place = f"variant {index}"
            found = self.keys(entry, place, {"name"}, {"with", "overrides", "reason"})
            name = str(found["name"]).strip()
            if not name or "\n" in name:
                raise self.error(f"{place}: name: expected one line, got {found['name']!r}")
            if name in variants:
                raise self.error(f"{place}: {name!r} names two variants")
            place = f"variant {name!r}"
            settings = self._together(found["with"], variants, found["overrides"], place)
            reason = " ".join(str(found["reason"] or "").split())
            variants[name] = Variant(name, settings, reason)
        return tuple(variants.values())

    def _together(
        self, included: Any, known: Mapping[str, Variant], overrides: Any, place: str
    ) -> dict[str, Any]:
        """The overrides of a variant and of all that it builds on."""
        own = self.settings(overrides, place)
        if included is not None and not isinstance(included, list):
            raise self.error(f"{place}: with: expected a list of variants, got {included!r}")
        together: dict[str, Any] = {}
        for name in map(str, included or ()):
            if name not in known:
                raise self.error(f"{place}: with: {name!r} is no variant further up")
            for key, value in known[name].settings.items():
                if key in together and together[key] != value and key not in own:
                    raise self.error(
                        f"{place}: with: {key} is {together[key]} and, of {name!r}, {value}; give "
                        "the value in its own overrides"
                    )
                together[key] = value
        return together | own

    def settings(self, entry: Any, place: str) -> dict[str, Any]:
        if entry is None:
            return {}
        if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
            raise self.error(f"{place}: overrides: expected KEY: VALUE pairs, got {entry!r}")
        return dict(entry)

    def scores(self, entry: Any) -> tuple[str, ...]:
        if entry is None:
            return _SCORES
        if not isinstance(entry, list) or not entry or not all(map(_is_score, entry)):
            raise self.error("scores: expected a list of names such as slots/ARI or panoptic/PQ")
        if len(set(entry)) < len(entry):
            raise self.error("scores: one stands there twice")
        return tuple(entry)

    def curve(self, entry: Any) -> Curve | None:
        if entry is None:
            return None
        found = self.keys(entry, "curve", {"key", "values"}, {"label"})
        values = found["values"]
        if not isinstance(values, list) or len(values) < 2 or not all(map(is_number, values)):
            raise self.error(f"curve: values: expected at least two numbers, got {values!r}")
        if any(later <= earlier for earlier, later in zip(values, values[1:], strict=False)):
            raise self.error("curve: values: have to rise")
        return Curve(str(found["key"]), tuple(values), str(found["label"] or found["key"]))


def _is_score(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    task, slash, score = name.removeprefix("student/").partition("/")
    return task in ("slots", "panoptic") and bool(slash and score)
