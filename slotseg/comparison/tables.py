"""The table of a comparison, for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from slotseg.comparison.published import Published
from slotseg.comparison.records import NOT_RUN, Row, mean_and_deviation
from slotseg.comparison.texts import UNKNOWN, digits, mib, whole
from slotseg.engine.clocks import PROCESSOR, WALL

# Training times that differ less from the plan are taken as equal.
_CLOCK_TOLERANCE = {WALL: 0.2, PROCESSOR: 0.1}

_NOTES = {
    "images/s": "inference of one image at a time, from the mapped image to segments at the size "
    "of the file, median; reading files is not part of it.",
    "s/step": "wall-clock seconds of a training step, waiting for data included.",
    "processor": "time on the processor, all threads and data workers of a training included; it "
    "does not count what other programs on the machine take.",
    "memory": "peak of the process in inference and in training. On the CPU resident memory, the "
    "interpreter and its libraries (some hundred MiB) included and data workers not; on CUDA what "
    "tensors took on the device. In training it includes the probe of the step time and the "
    "evaluations, and after a resume it is that of the last process only.",
    "input": "height x width of what the model sees; scores are at the size of the files.",
    "±": "sample standard deviation over seeds.",
}


@dataclass(frozen=True)
class _Column:
    """One quantity: its names in the two tables, and its value and text of a row."""

    title: str
    key: str
    value: Callable[[Row], float | str | None]
    text: Callable[[Row], str]
    # Told to people only if the training was measured so; files have it always.
    only_on_clock: str = ""


def markdown_table(
    rows: Sequence[Row],
    *,
    dataset: str,
    minutes: float | None = None,
    clock: str = WALL,
    chosen: Sequence[str] = (),
    published: Sequence[Published] = (),
) -> str:
    """Measured rows, what failed and why, where the rows come from, and published figures apart.

    Args:
        rows: measured.
        dataset: that they were scored on.
        minutes: of training; None: weights were scored.
        clock: of the minutes.
        chosen: what was chosen for the models beforehand, a line each.
        published: shown in tables of their own.
    """
    unit = _minutes_of(clock)
    how = f"each trained for {minutes:g} {unit}" if minutes is not None else "weights as given"
    columns = [
        column
        for column in _columns(rows)
        if _is_known(column, rows) and column.only_on_clock in ("", clock)
    ]
    cells = [[column.text(row) for column in columns] for row in rows]
    align = ["left", *["right"] * (len(columns) - 1)]
    parts = [
        f"## Measured on {dataset}, {how}",
        tabulate(
            cells,
            [column.title for column in columns],
            tablefmt="github",
            colalign=align if cells else None,
            disable_numparse=True,
        ),
        f"PQ, SQ and RQ in percent. {_legend([c.title for c in columns], cells)}".rstrip(),
    ]
    lines = [f"- {row.name}: {error}" for row in rows for error in row.errors]
    unfinished = [line for line in lines if line.endswith(f": {NOT_RUN}")]
    failures = [line for line in lines if line not in unfinished]
    for heading, told in (("### Failed", failures), ("### Not finished yet", unfinished)):
        parts += [heading, "\n".join(told)] if told else []
    if chosen:
        parts += ["### Chosen beforehand", "\n".join(f"- {line}" for line in chosen)]
    uneven = [line for row in rows if (line := _off_the_clock(row, minutes, clock))]
    if uneven:
        parts += ["### Trained for another time than planned", "\n".join(uneven)]
    origins = _origins(rows)
    if origins:
        parts += ["### Made by", origins]
    for figures in published:
        parts += _published(figures)
    return "\n\n".join(parts) + "\n"


def csv_table(rows: Sequence[Row]) -> str:
    """One line a model, plain numbers with full precision, and the reason where it failed."""
    columns = _columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys: list[str] = []
    for column in columns:
        keys += [column.key, f"{column.key}_sd"] if _score_name(column.key) else [column.key]
    writer.writerow([*keys, "seeds", "error"])
    for row in rows:
        cells: list[object] = []
        for column in columns:
            name = _score_name(column.key)
            values = mean_and_deviation(row.score(name)) if name else (column.value(row),)
            cells += [_csv_cell(value) for value in values]
        seeds = " ".join(str(run.seed) for run in row.runs if run.seed is not None)
        writer.writerow([*cells, seeds, "; ".join(row.errors)])
    return text.getvalue()


# Flat score -> (title in Markdown, column in CSV, decimals).
_SCORES = {
    "panoptic/PQ": ("PQ", "PQ", 2),
    "panoptic/PQ_things": ("PQ things", "PQ_things", 2),
    "panoptic/PQ_stuff": ("PQ stuff", "PQ_stuff", 2),
    "panoptic/SQ": ("SQ", "SQ", 2),
    "panoptic/RQ": ("RQ", "RQ", 2),
    "slots/ARI": ("ARI", "ARI", 4),
    "slots/FG-ARI": ("FG-ARI", "FG-ARI", 4),
    "slots/mBO": ("mBO", "mBO", 4),
}


def _score_name(key: str) -> str | None:
    return next((name for name, (_, column, _) in _SCORES.items() if column == key), None)


def _columns(rows: Sequence[Row]) -> list[_Column]:
    scores = [
        _Column(
            title,
            key,
            lambda row, name=name: mean_and_deviation(row.score(name))[0],
            lambda row, name=name, decimals=decimals: _score_text(row, name, decimals),
        )
        for name, (title, key, decimals) in _SCORES.items()
        if name in ("panoptic/PQ", "panoptic/SQ", "panoptic/RQ") or any(r.score(name) for r in rows)
    ]
    return [
        _Column("model", "model", lambda row: row.name, lambda row: row.name.replace("|", "/")),
        *scores,
        _Column("classes", "classes", _classes, lambda row: whole(_classes(row))),
        _Column("parameters", "parameters", _number("parameters"), _parameters_text),
        _Column("images/s", "images_per_second", _images_per_second, _speed_text),
        _scaled_column(
            "processor ms/image",
            "processor_ms_per_image",
            "processor_seconds_an_image",
            1000,
            only_on_clock=PROCESSOR,
        ),
        _scaled_column("s/step", "seconds_per_step", "step_seconds"),
        _scaled_column(
            "processor s/step",
            "processor_seconds_per_step",
            "step_processor_seconds",
            only_on_clock=PROCESSOR,
        ),
        _Column("steps", "steps", _number("steps"), lambda row: whole(row.number("steps"))),
        _scaled_column("training min", "train_minutes", "train_seconds", 1 / 60),
        _scaled_column(
            "processor min",
            "train_processor_minutes",
            "train_processor_seconds",
            1 / 60,
            only_on_clock=PROCESSOR,
        ),
        _Column(
            "inference memory",
            "inference_memory_mib",
            _number("inference_memory_mib"),
            lambda row: mib(row.number("inference_memory_mib")),
        ),
        _Column(
            "training memory",
            "train_memory_mib",
            _number("train_memory_mib"),
            lambda row: mib(row.number("train_memory_mib")),
        ),
        _Column("input", "input_size", _input_size, lambda row: _input_size(row) or UNKNOWN),
    ]


def _is_known(column: _Column, rows: Sequence[Row]) -> bool:
    """A column in which no row has a value says nothing; the scores stay."""
    if column.key in ("model", "PQ", "SQ", "RQ"):
        return True
    values = [column.value(row) for row in rows]
    return any(v is not None and not (isinstance(v, float) and math.isnan(v)) for v in values)


def _scaled_column(
    title: str, key: str, number: str, factor: float = 1, *, only_on_clock: str = ""
) -> _Column:
    """A number of the rows times ``factor``, with three digits for people."""

    def value(row: Row) -> float | None:
        known = row.number(number)
        return None if known is None else factor * known

    return _Column(title, key, value, lambda row: digits(value(row)), only_on_clock)


def _number(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.number(name)


def _classes(row: Row) -> float | None:
    values = row.score("panoptic/classes")
    return values[0] if values else None


def _images_per_second(row: Row) -> float | None:
    seconds = row.number("seconds_an_image")
    return 1 / seconds if seconds else None


def _input_size(row: Row) -> str | None:
    sizes = {run.input_size for run in row.runs if run.input_size}
    return ", ".join(f"{height}x{width}" for height, width in sorted(sizes)) or None


def _score_text(row: Row, name: str, decimals: int) -> str:
    mean, deviation = mean_and_deviation(row.score(name))
    if math.isnan(mean):
        failed = name == "panoptic/PQ" and any(run.error not in ("", NOT_RUN) for run in row.runs)
        return "failed" if failed else UNKNOWN
    return f"{mean:.{decimals}f}" + (
        f" ± {deviation:.{decimals}f}" if deviation is not None else ""
    )


def _parameters_text(row: Row) -> str:
    count = row.number("parameters")
    return UNKNOWN if count is None else f"{digits(count / 1e6)} M"


def _speed_text(row: Row) -> str:
    return digits(_images_per_second(row))


def _csv_cell(value: float | str | None) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else repr(value)


def _legend(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    shown = " ".join(titles)
    deviates = any("±" in cell for row in cells for cell in row)
    return " ".join(
        f"{word}: {note}"
        for word, note in _NOTES.items()
        if (deviates if word == "±" else word in shown)
    )


def _minutes_of(clock: str) -> str:
    return "processor minutes" if clock == PROCESSOR else "minutes"


def _off_the_clock(row: Row, minutes: float | None, clock: str) -> str:
    """Says so if the steps took much more or less time than was planned; empty otherwise."""
    on_processor = clock == PROCESSOR
    seconds = row.number("train_processor_seconds" if on_processor else "train_seconds")
    if minutes is None or seconds is None or row.added:
        return ""
    if abs(seconds / 60 / minutes - 1) <= _CLOCK_TOLERANCE[clock]:
        return ""
    advice = "" if on_processor else " while nothing else runs, or with --clock processor"
    return (
        f"- {row.name}: {digits(seconds / 60)} instead of {minutes:g} {_minutes_of(clock)}; the "
        "machine was busier, or less busy, when the time of a step was measured. Compare again "
        f"with another --output{advice}."
    )


def _origins(rows: Sequence[Row]) -> str:
    """Where the numbers come from; rows of one command share a line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for run in row.runs:
            command, machine = run.origin.get("command", ""), run.origin.get("machine", "")
            if command or machine:
                names = lines.setdefault((command, machine), [])
                if row.name not in names:
                    names.append(row.name)
    return "\n".join(
        f"- {', '.join(names)}: "
        + " on ".join(part for part in (f"`{command}`" if command else "", machine) if part)
        for (command, machine), names in lines.items()
    )


def _published(figures: Published) -> list[str]:
    scores = figures.score_names
    cells = [
        [
            row.method,
            *(f"{row.scores[name]:g}" if name in row.scores else UNKNOWN for name in scores),
            row.source + (f" ({row.note})" if row.note else ""),
        ]
        for row in figures.rows
    ]
    headers = ["method", *scores, "source"]
    return [
        f"## Published, not measured here: {figures.title}",
        tabulate(cells, headers, tablefmt="github", disable_numparse=True),
        f"{figures.protocol} Scores in percent.",
    ]
