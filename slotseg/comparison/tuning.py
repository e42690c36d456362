"""Choosing options of several models by one rule, on a split that nobody is scored on.

Every model is trained with every combination of the values that are tried, each for the same short
time, and scored on a tuning split. The best mean over the seeds is chosen. Values may be factors on
what a model's config says, so that models of different scales are given the same room.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from tabulate import tabulate
from tqdm import tqdm

from slotseg.comparison.plan import Plan, make_plan, model_names
from slotseg.comparison.records import NOT_RUN, Run, mean_and_deviation, read_run
from slotseg.comparison.runner import run_side_by_side
from slotseg.comparison.texts import UNKNOWN
from slotseg.config import get_cfg
from slotseg.engine import clocks
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically

NAME = "tuning"
_PHASE = "score"
# What is looked at: the first one that any candidate has.
_SCORES = ("panoptic/PQ", "slots/ARI")

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Candidate:
    """One model with one combination of values.

    Attributes:
        model: its name.
        settings: config keys and their values.
        runs: one a seed.
    """

    model: str
    settings: Settings
    runs: tuple[Run, ...] = ()

    @property
    def in_words(self) -> str:
        """``KEY value, KEY value``."""
        return ", ".join(f"{key} {value}" for key, value in self.settings)

    def mean(self, score: str) -> tuple[float, float | None]:
        """Mean and deviation over the seeds; NaN unless every seed has the score."""
        values = [run.scores.get(score, math.nan) for run in self.runs]
        if not values or any(run.error for run in self.runs) or any(map(math.isnan, values)):
            return math.nan, None
        return mean_and_deviation(values)


@dataclass(frozen=True)
class TuningPlan:
    """What is tried.

    Attributes:
        plan: a comparison of all candidates, whose jobs are run.
        candidates: model by model; names in ``plan`` are their positions.
        tried: key -> values as they were given, for the records.
    """

    plan: Plan
    candidates: tuple[Candidate, ...]
    tried: dict[str, list[str]]


@dataclass(frozen=True)
class Choice:
    """What is chosen for a model.

    Attributes:
        model: its name.
        best: the candidate; None: none of them has a score.
        edges: keys whose chosen value is the smallest or largest number of several that were
            tried, so that a better one may lie outside.
    """

    model: str
    best: Candidate | None
    edges: tuple[str, ...]


def make_tuning_plan(
    configs: Sequence[str],
    output: str,
    tried: Sequence[str],
    *,
    dataset: str,
    names: Sequence[str] = (),
    minutes: float | None = None,
    weights: Sequence[str] = (),
    train_dataset: str | None = None,
    seeds: Sequence[int] = (0,),
    overrides: Sequence[Any] = (),
    clock: str = clocks.WALL,
    command: str = "",
) -> TuningPlan:
    """Check what is asked for, before anything runs.

    Args:
        configs: YAML files, one a model.
        output: folder of all runs.
        tried: ``KEY=V1,V2,...`` each; all combinations are tried. ``x0.5`` is half of what the
            model's config says.
        dataset: to score on.
        minutes: of training a candidate; None: ``weights`` are scored, for options of inference.
        weights, names, train_dataset, seeds, overrides, clock, command: see
            :func:`slotseg.comparison.plan.make_plan`.

    Raises:
        ConfigError: see there; or the split is one that the configs are trained or scored on,
            which would spoil its scores, or a value does not fit its key.
    """
    values = _parse(tried)
    names = model_names(configs, names)
    repeated: list[str] = []
    candidates: list[Candidate] = []
    for config, name in zip(configs, names, strict=True):
        cfg = get_cfg(config, overrides)
        _require_unseen(cfg, name, dataset, train_dataset)
        resolved = [[(key, _resolve(cfg, key, v)) for v in texts] for key, texts in values.items()]
        for settings in itertools.product(*resolved):
            repeated.append(config)
            candidates.append(Candidate(name, settings))
    each = len(candidates) // len(names)
    plan = make_plan(
        repeated,
        output,
        names=[f"{c.model} {index % each}" for index, c in enumerate(candidates)],
        minutes=minutes,
        weights=[path for path in weights for _ in range(each)],
        dataset=dataset,
        train_dataset=train_dataset,
        seeds=seeds,
        evaluations=1,
        overrides=overrides,
        own_overrides=[[part for pair in c.settings for part in pair] for c in candidates],
        clock=clock,
        command=command,
    )
    return TuningPlan(plan, tuple(candidates), values)


def tune(tuning: TuningPlan, *, processes: int = 1) -> tuple[list[Choice], str]:
    """Run what is not done yet, and write ``tuning.{json,md}`` into the plan's folder.

    The files are brought up to date after every run; start again to go on.

    Args:
        tuning: from :func:`make_tuning_plan`.
        processes: trainings at once.

    Returns:
        One choice a model, and the table as Markdown.

    Raises:
        DatasetError: a data set is not there or damaged.
    """
    plan = tuning.plan
    for name in dict.fromkeys((plan.dataset, *plan.train_datasets)):
        DatasetCatalog.get(name)
    written = write_tuning(tuning)
    with tqdm(total=len(plan.jobs), desc="tuning", unit="run", disable=None) as bar:
        for _ in run_side_by_side(plan.jobs, _PHASE, processes=processes):
            bar.update()
            written = write_tuning(tuning)
    return written


def write_tuning(tuning: TuningPlan) -> tuple[list[Choice], str]:
    """Read what the runs have left, choose, and write the record and the table."""
    candidates = _read(tuning)
    score = score_of(candidates)
    choices = choose(candidates, score)
    plan = tuning.plan
    content = {
        "dataset": plan.dataset,
        "train_datasets": plan.train_datasets,
        "train_minutes": plan.minutes,
        "clock": plan.clock,
        "seeds": sorted({job.seed for job in plan.jobs}),
        "score": score,
        "tried": tuning.tried,
        "command": plan.jobs[0].command,
        "models": [_as_dict(choice, candidates, score) for choice in choices],
    }
    base = os.path.join(plan.output, NAME)
    write_atomically(f"{base}.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    table = tuning_table(tuning, candidates, choices)
    write_atomically(f"{base}.md", table)
    return choices, table


def score_of(candidates: Sequence[Candidate]) -> str:
    """The score to choose by: PQ where any candidate has one."""
    runs = [run for candidate in candidates for run in candidate.runs]
    return next((name for name in _SCORES if any(name in run.scores for run in runs)), _SCORES[0])


def choose(candidates: Sequence[Candidate], score: str) -> list[Choice]:
    """The best of every model; of equals the one that was given first."""
    choices = []
    for model in dict.fromkeys(candidate.model for candidate in candidates):
        own = [candidate for candidate in candidates if candidate.model == model]
        scored = [c for c in own if not math.isnan(c.mean(score)[0])]
        best = max(scored, key=lambda c: c.mean(score)[0], default=None)
        choices.append(Choice(model, best, _edges(best, own) if best else ()))
    return choices


def tuning_table(
    tuning: TuningPlan, candidates: Sequence[Candidate], choices: Sequence[Choice]
) -> str:
    """What was tried and what is chosen, as Markdown."""
    plan, score = tuning.plan, score_of(candidates)
    name = score.partition("/")[2]
    best = [choice.best for choice in choices]
    rows = [
        [
            candidate.model,
            *(str(value) for _, value in candidate.settings),
            _score_text(candidate, score),
            "chosen" if candidate in best else "",
        ]
        for candidate in candidates
    ]
    unit = "processor minutes" if plan.clock == clocks.PROCESSOR else "minutes"
    how = f"each trained for {plan.minutes:g} {unit}" if plan.minutes else "weights as given"
    seeds = sorted({job.seed for job in plan.jobs})
    parts = [
        f"## Tuned on {plan.dataset}, {how}, seeds {', '.join(map(str, seeds))}",
        tabulate(
            rows,
            ["model", *tuning.tried, name, ""],
            tablefmt="github",
            colalign=["left", *["right"] * (len(tuning.tried) + 1), "left"],
            disable_numparse=True,
        ),
        f"Chosen: the highest mean {name}.",
    ]
    notes = [
        f"- {choice.model}: the chosen {key} is the last of those tried; a better one may lie "
        "outside."
        for choice in choices
        for key in choice.edges
    ]
    notes += [
        f"- {candidate.model}, {candidate.in_words}: {run.error}"
        for candidate in candidates
        for run in candidate.runs
        if run.error
    ]
    parts += ["\n".join(notes)] if notes else []
    parts += [f"Made by `{plan.jobs[0].command}`"] if plan.jobs[0].command else []
    return "\n\n".join(parts) + "\n"


def read_chosen(path: str, names: Sequence[str]) -> tuple[list[list[Any]], list[str], str]:
    """What ``tuning.json`` says of the models of a comparison.

    Args:
        path: of the file.
        names: of the models.

    Returns:
        ``KEY VALUE ...`` of every model, the same in words, and the set that they were chosen on.

    Raises:
        DatasetError: the file is missing or not such a file.
        ConfigError: it has nothing about a model, or not all that was to be tried has been.
    """
    try:
        with PathManager.open(path, "r") as file:
            content = json.load(file)
        models = {entry["name"]: entry for entry in content["models"]}
        chosen = {name: entry["chosen"] for name, entry in models.items()}
        left = {name: _not_run(entry) for name, entry in models.items()}
        dataset = content["dataset"]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{path}: not a tuning.json of tools/tune.py") from error
    overrides, words = [], []
    for name in names:
        if not chosen.get(name):
            raise ConfigError(
                f"{path}: nothing is chosen for {name!r} there, only for "
                f"{', '.join(n for n, c in chosen.items() if c) or 'nobody'}; see --names"
            )
        if left[name]:
            raise ConfigError(
                f"{path}: {left[name]} runs of {name!r} are still to be made, so a better value "
                "may come; start the same tools/tune.py again"
            )
        overrides.append([part for pair in chosen[name].items() for part in pair])
        told = ", ".join(f"{key} {value}" for key, value in chosen[name].items())
        words.append(f"{name}: {told}, on {dataset}")
    return overrides, words, dataset


def require_other_split(plan: Plan, tuned_on: str) -> None:
    """Refuse a comparison on the set that options were chosen on: its scores would be too good.

    Raises:
        ConfigError: it is the same.
    """
    if plan.dataset == tuned_on:
        raise ConfigError(
            f"--tuned: its options were chosen on {tuned_on}, so no model may be compared there; "
            "give another --dataset"
        )


def _not_run(entry: dict[str, Any]) -> int:
    """Runs of a model in ``tuning.json`` that nobody has started."""
    return sum(candidate["errors"].count(NOT_RUN) for candidate in entry["candidates"])


def _parse(tried: Sequence[str]) -> dict[str, list[str]]:
    """``KEY=V1,V2`` as key and values."""
    values: dict[str, list[str]] = {}
    for text in tried:
        key, equals, listed = text.partition("=")
        parts = [part.strip() for part in listed.split(",")]
        if not equals or not all(parts) or not key:
            raise ConfigError(f"--try: expected KEY=V1,V2,..., got {text!r}")
        if key in values or len(set(parts)) != len(parts):
            raise ConfigError(f"--try: {text!r} names a key or a value twice")
        values[key] = parts
    if not values:
        raise ConfigError("--try: name at least one KEY=V1,V2,...")
    return values


def _resolve(cfg: CfgNode, key: str, text: str) -> Any:
    """A value as it is written, or a factor times the value of the config."""
    if not text.startswith("x"):
        return text
    usual: Any = cfg
    for part in key.split("."):
        usual = usual.get(part) if isinstance(usual, CfgNode) else None
    try:
        factor = float(text[1:])
    except ValueError:
        return text
    if isinstance(usual, bool) or not isinstance(usual, int | float):
        raise ConfigError(f"--try: {key}: {text} is a factor, but the config has no number there")
    scaled = usual * factor
    return round(scaled) if isinstance(usual, int) else float(f"{scaled:.6g}")


def _require_unseen(cfg: CfgNode, name: str, dataset: str, train_dataset: str | None) -> None:
    trained = (train_dataset,) if train_dataset else tuple(cfg.DATASETS.TRAIN)
    for what, sets in (("scored", tuple(cfg.DATASETS.TEST)), ("trained", trained)):
        if dataset in sets:
            raise ConfigError(
                f"--dataset: {name} is {what} on {dataset}, so nothing can be chosen there; name a "
                "tuning split"
            )


def _read(tuning: TuningPlan) -> list[Candidate]:
    jobs: dict[str, list[Run]] = {}
    for job in sorted(tuning.plan.jobs, key=lambda job: job.seed):
        jobs.setdefault(job.name, []).append(read_run(job, (_PHASE,)))
    each = len(tuning.candidates) // len({c.model for c in tuning.candidates})
    return [
        Candidate(c.model, c.settings, tuple(jobs[f"{c.model} {index % each}"]))
        for index, c in enumerate(tuning.candidates)
    ]


def _edges(best: Candidate, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    edges = []
    for position, (key, value) in enumerate(best.settings):
        tried = {_number(candidate.settings[position][1]) for candidate in candidates}
        known = sorted(number for number in tried if number is not None)
        if len(known) == len(tried) > 2 and _number(value) in (known[0], known[-1]):
            edges.append(key)
    return tuple(edges)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _score_text(candidate: Candidate, score: str) -> str:
    mean, deviation = candidate.mean(score)
    if math.isnan(mean):
        return UNKNOWN
    decimals = 2 if score == _SCORES[0] else 4
    spread = f" ± {deviation:.{decimals}f}" if deviation is not None else ""
    return f"{mean:.{decimals}f}{spread}"


def _as_dict(choice: Choice, candidates: Sequence[Candidate], score: str) -> dict[str, Any]:
    best = choice.best
    return {
        "name": choice.model,
        "chosen": dict(best.settings) if best else None,
        "score": best.mean(score)[0] if best else None,
        "at_edge": choice.edges,
        "candidates": [
            {
                "settings": dict(candidate.settings),
                "scores": [run.scores.get(score) for run in candidate.runs],
                "steps": [run.numbers.get("steps") for run in candidate.runs],
                "errors": [run.error for run in candidate.runs if run.error],
            }
            for candidate in candidates
            if candidate.model == choice.model
        ],
    }
