"""The table of a ladder, for people: Markdown, and the cells of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from slotseg.comparison.records import NOT_RUN, mean_and_deviation
from slotseg.comparison.texts import UNKNOWN, digits, mib, whole
from slotseg.ladder.records import LadderRecord, PretrainingRecord, RungRecord

NOT_CLIMBED = "not climbed"


@dataclass(frozen=True)
class Cells:
    """A table as text.

    Attributes:
        headers: one a column; the first column holds names.
        rows: lowest rung first.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def ladder_table(record: LadderRecord) -> str:
    """Rungs, why it went no further, what is wrong with which rung, and what came before."""
    cells = rung_cells(record)
    parts = [
        f"## {record.name}: measured on {record.dataset}, {record.budget}",
        _markdown(cells),
        legend(record),
    ]
    if record.stopped:
        parts += ["### Stopped", record.stopped]
    told = remarks(record)
    if told:
        parts += ["### Health", "\n".join(f"- {line}" for line in told)]
    if record.pretraining:
        parts += ["### Before the first rung", _markdown(pretraining_cells(record.pretraining))]
        parts += ["Not part of any rung's time; all rungs and seeds share the weights."]
    lines = origins(record)
    if lines:
        parts += ["### Made by", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def rung_cells(record: LadderRecord) -> Cells:
    """One row a rung."""
    first = score_title(record.scores[0])
    memory = _memory_title(record)
    headers = [
        "rung",
        first,
        f"Δ {first}",
        *map(score_title, record.scores[1:]),
        "health",
        "s/step",
        "steps",
        "ms/image",
        "parameters",
        "trained",
        *([memory] if memory else []),
        "backbone starts from",
    ]
    rows = []
    for index, rung in enumerate(record.rungs):
        row = rung.row
        seconds = row.number("seconds_an_image")
        rows.append(
            (
                rung.name,
                _score(rung, record.scores[0]),
                _difference(record, index),
                *(_score(rung, score) for score in record.scores[1:]),
                rung_state(rung),
                digits(row.number("step_seconds")),
                whole(row.number("steps")),
                digits(None if seconds is None else 1000 * seconds),
                _millions(row.number("parameters")),
                _millions(row.number("trained_parameters")),
                *([mib(row.number("step_memory_mib"))] if memory else []),
                rung.starts_from,
            )
        )
    return Cells(tuple(headers), tuple(rows))


def pretraining_cells(entries: Sequence[PretrainingRecord]) -> Cells:
    """One row a training before the first rung."""
    rows = tuple(
        (
            entry.name,
            whole(entry.steps),
            digits(None if entry.seconds is None else entry.seconds / 60),
            _millions(entry.parameters),
            entry.machine or UNKNOWN,
        )
        for entry in entries
    )
    return Cells(("pre-training", "steps", "minutes", "parameters", "machine"), rows)


def legend(record: LadderRecord) -> str:
    """What the columns mean."""
    first = score_title(record.scores[0])
    several = any(len(rung.row.runs) > 1 for rung in record.rungs)
    sentences = [
        f"Δ {first}: against the nearest rung below that has a score"
        + (", mean over seeds of the difference of a seed." if several else "."),
        "±: sample standard deviation over seeds." if several else "",
        "Health: what the slot monitor said last, of the worst seed.",
        "s/step: wall-clock seconds of a training step, waiting for data included, with as many "
        "trainings at once as the command says. ms/image: inference of one image, median, nothing "
        "else running. Trained: parameters that are not frozen.",
    ]
    if record.memory_size is not None:
        sentences.append(
            "Memory: of a training step on one image of {}x{}, weights, gradients and the "
            "optimiser's state included, in a process of its own; on the CPU without the "
            "interpreter and its libraries.".format(*record.memory_size)
        )
    return " ".join(sentence for sentence in sentences if sentence)


def remarks(record: LadderRecord) -> list[str]:
    """What is wrong, or was warned of, with which rung."""
    lines = []
    for rung in record.rungs:
        if rung.health is not None:
            lines += [f"{rung.name}: {reason}" for reason in rung.health.reasons]
            lines += [f"{rung.name}, warning: {remark}" for remark in rung.health.remarks]
        lines += [f"{rung.name}, not measured: {note}" for note in rung.notes]
    return lines


def origins(record: LadderRecord) -> list[str]:
    """Commands and machines that the numbers come from; rungs of one command share a line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for rung in record.rungs:
        for run in rung.row.runs:
            command, machine = run.origin.get("command", ""), run.origin.get("machine", "")
            names = lines.setdefault((command, machine), []) if command else []
            if rung.name not in names:
                names.append(rung.name)
    return [
        f"{', '.join(names)}: `{command}`" + (f" on {machine}" if machine else "")
        for (command, machine), names in lines.items()
    ]


def rung_in_words(record: LadderRecord, index: int) -> str:
    """One line for a terminal."""
    rung = record.rungs[index]
    title = score_title(record.scores[0])
    change = _difference(record, index)
    below = record.below(index)
    against = f" ({change} against {below.name})" if below and change != UNKNOWN else ""
    return f"{rung.name}: {title} {_score(rung, record.scores[0])}{against}, {rung_state(rung)}"


def rung_state(rung: RungRecord) -> str:
    """How far it came and what its slots are like, in a few words."""
    if is_unknown(rung):
        return NOT_CLIMBED
    if rung.health is None:
        return "in training"
    if rung.row.errors and len(rung.row.errors) == len(rung.row.runs):
        return "failed"
    means = {score: mean_and_deviation(rung.row.score(score))[0] for score in rung.gate}
    under = any(means[score] < least for score, least in rung.gate.items())
    return f"{rung.health.verdict}, under its gate" if under else rung.health.verdict


def score_title(score: str) -> str:
    """The name of a score without its task; panoptic scores are in percent."""
    task, _, name = score.partition("/")
    return f"{name} %" if task == "panoptic" else name


def is_unknown(rung: RungRecord) -> bool:
    """Whether nobody has tried this rung."""
    return all(run.error == NOT_RUN for run in rung.row.runs)


def _markdown(cells: Cells) -> str:
    align = ["left", *["right"] * (len(cells.headers) - 2), "left"]
    return tabulate(
        [[cell.replace("|", "/") for cell in row] for row in cells.rows],
        list(cells.headers),
        tablefmt="github",
        colalign=align if cells.rows else None,
        disable_numparse=True,
    )


def _score(rung: RungRecord, score: str) -> str:
    mean, deviation = mean_and_deviation(rung.row.score(score))
    if math.isnan(mean):
        return UNKNOWN
    decimals = _decimals(score)
    spread = f" ± {deviation:.{decimals}f}" if deviation is not None else ""
    return f"{mean:.{decimals}f}{spread}"


def _difference(record: LadderRecord, index: int) -> str:
    score = record.scores[0]
    mean, deviation = record.rungs[index].difference(record.below(index), score)
    if math.isnan(mean):
        return UNKNOWN
    decimals = _decimals(score)
    spread = f" ± {deviation:.{decimals}f}" if deviation is not None else ""
    return f"{mean:+.{decimals}f}{spread}"


def _decimals(score: str) -> int:
    return 2 if score.startswith("panoptic/") else 3


def _millions(count: float | None) -> str:
    return UNKNOWN if count is None else f"{digits(count / 1e6)} M"


def _memory_title(record: LadderRecord) -> str:
    if record.memory_size is None:
        return ""
    return "memory at {}x{}".format(*record.memory_size)
