"""One self-contained HTML file about a training run: scores, curves, pictures, how it was made."""

from __future__ import annotations

import base64
import io
import math
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from slotseg.evaluation.quality_table import (
    QUALITIES,
    QUALITY_DEFINITIONS,
    QualityRow,
    quality_table,
)
from slotseg.evaluation.slot_evaluator import DEFINITIONS
from slotseg.files import write_atomically
from slotseg.visualization.examples import GROUPS, Example, Panel, example_panels
from slotseg.visualization.overlays import enlarge, enlargement
from slotseg.visualization.panoptic_examples import (
    PanopticExample,
    class_legend,
    panoptic_panels,
)
from slotseg.visualization.plots import chart_svg, run_charts, series_color
from slotseg.visualization.run_folder import RunFolder
from slotseg.visualization.slot_planes import slot_plane_caption, slot_plane_svg

HEADLINE = ("ARI", "FG-ARI", "mBO", "mIoU")
UNDEFINED = "not defined"

_COUNTS = (
    "images",
    "images_without_foreground",
    "height",
    "width",
    "attention_masks",
    "parent_masks",
)
_SHARES = ("objects_split", "objects_merged", "objects_missed")
# Sides in pixels of embedded pictures: longest of panels and slots, shortest of flat colours.
_PANEL_SIDE, _SLOT_SIDE, _FLAT_SIDE = 640, 160, 256
_GROUP_TITLES = {
    "best": "Best",
    "median": "In the middle",
    "worst": "Worst",
    "random": "Drawn at random",
}
# The choices that make a model and a recipe, as (label, config key).
_KEY_SETTINGS = (
    ("Meta-architecture", "MODEL.META_ARCHITECTURE"),
    ("Trained on", "DATASETS.TRAIN"),
    ("Scored on", "DATASETS.TEST"),
    ("Image size (height, width)", "INPUT.IMAGE_SIZE"),
    ("Crop window (top, left, bottom, right)", "INPUT.CROP_WINDOW"),
    ("Backbone", "MODEL.BACKBONE.NAME"),
    ("Slots", "MODEL.SLOTS.NUM_SLOTS"),
    ("Slot size", "MODEL.SLOTS.DIM"),
    ("Initialiser", "MODEL.SLOTS.INITIALIZER.NAME"),
    ("Grouping", "MODEL.SLOTS.GROUPING.NAME"),
    ("Slot iterations", "MODEL.SLOTS.GROUPING.ITERATIONS"),
    ("Decoders", "MODEL.DECODERS"),
    ("Reconstruction loss weight", "LOSSES.RECONSTRUCTION.WEIGHT"),
    ("Mask loss weight", "LOSSES.MASKS.WEIGHT"),
    ("Diversity loss weight", "LOSSES.DIVERSITY.WEIGHT"),
    ("Optimiser", "SOLVER.OPTIMIZER"),
    ("Learning rate", "SOLVER.BASE_LR"),
    ("Images per step", "SOLVER.IMS_PER_BATCH"),
    ("Steps", "SOLVER.MAX_ITER"),
)


# Settings that only the slot model reads.
_OF_SLOT_MODELS = ("MODEL.SLOTS.", "MODEL.DECODERS", "LOSSES.")


@dataclass(frozen=True)
class ScoreTable:
    """Scores on one data set, as text."""

    dataset: str
    setting: str
    headline: list[tuple[str, str, str]]
    others: list[tuple[str, str, str]]


def write_report(
    run: RunFolder,
    output: str,
    examples: Sequence[Example | PanopticExample] = (),
    notes: Sequence[str] = (),
    *,
    examples_from: str = "",
) -> None:
    """Write :func:`build_report` to ``output``, atomically."""
    write_atomically(output, build_report(run, examples, notes, examples_from=examples_from))


def build_report(
    run: RunFolder,
    examples: Sequence[Example | PanopticExample] = (),
    notes: Sequence[str] = (),
    *,
    examples_from: str = "",
    created: datetime | None = None,
) -> str:
    """The report as HTML text; it refers to no other file and needs no network.

    Args:
        run: what the run left behind.
        examples: images with predictions, to be shown group by group.
        notes: sentences about what could not be shown, besides ``run.notes``.
        examples_from: where the examples come from, in a few words.
        created: date of the report; default now.
    """
    created = created or datetime.now(timezone.utc)
    charts = run_charts(run.curves, run.monitor, similarity_levels=_similarity_levels(run.config))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("slotseg.visualization"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        title=run.name,
        created=created.strftime("%Y-%m-%d %H:%M UTC"),
        notes=[*run.notes, *notes],
        summary=_summary(run),
        tables=[score_table(name, scores) for name, scores in run.results.items()],
        qualities=[_quality(name, scores) for name, scores in run.quality.items()],
        definitions=_definitions(run),
        has_slots=run.has_slots,
        charts=[_chart(chart) for chart in charts],
        monitor=_monitor(run.monitor),
        planes=_planes(run.monitor),
        examples=[_example_group(group, examples) for group in GROUPS],
        num_examples=len(examples),
        examples_from=examples_from,
        legend=_legend(examples),
        settings=_settings(run.config, with_slots=run.has_slots),
        origin=_origin(run.run),
        command=_command(run.run),
        config_text=run.config_text,
    )


def score_table(dataset: str, scores: Mapping[str, float]) -> ScoreTable:
    """Texts for the scores of one data set; a score without a value says so."""
    return ScoreTable(
        dataset=dataset,
        setting=_setting(scores),
        headline=[(name, format_score(name, scores.get(name)), name) for name in HEADLINE],
        others=[
            (_label(name), format_score(name, value), name)
            for name, value in scores.items()
            if name not in HEADLINE and name not in _COUNTS
        ],
    )


def _quality(dataset: str, scores: Mapping[str, float]) -> dict[str, Any]:
    """Panoptic quality as texts: cards, groups and classes."""
    table = quality_table(scores)

    def cells(row: QualityRow) -> list[str]:
        values = (row.scores[quality] for quality in QUALITIES)
        return ["–" if math.isnan(value) else format_percent(value) for value in values]

    names = {row.name: "PQ" if row.name == "all" else f"PQ {row.name}" for row in table.groups}
    cards = [(names[row.name], format_percent(row.scores["PQ"])) for row in table.groups]
    return {
        "dataset": dataset,
        "setting": table.setting,
        "cards": cards,
        "columns": QUALITIES,
        "groups": [(row.name, cells(row)) for row in table.groups],
        "classes": [(row.name, cells(row)) for row in table.classes],
    }


def format_percent(value: float) -> str:
    """A score in percent as text."""
    return UNDEFINED if math.isnan(value) else f"{value:.1f}"


def _definitions(run: RunFolder) -> dict[str, str]:
    """Of the scores that the report shows."""
    found = dict(QUALITY_DEFINITIONS) if run.quality else {}
    if run.results or not run.quality:
        found |= {name: DEFINITIONS[name] for name in (*HEADLINE, *_other_scores(run.results))}
    return found


def format_score(name: str, value: float | None) -> str:
    """A score as text: shares in percent, the others with three decimals."""
    if value is None:
        return "not computed"
    if math.isnan(value):
        return UNDEFINED
    if name in _SHARES:
        return f"{value:.1%}"
    return f"{value:.2f}" if name.startswith("slots_") else f"{value:.3f}"


def format_seconds(seconds: float) -> str:
    """A duration as "1 h 02 min", "3 min 04 s" or "5.6 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def data_uri(picture: np.ndarray) -> Markup:
    """An RGB or RGBA picture as the text of a PNG that HTML can hold."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return Markup("data:image/png;base64,") + base64.b64encode(file.getvalue()).decode("ascii")


def _setting(scores: Mapping[str, float]) -> str:
    """Resolution, mask source and number of images: no score means anything without them."""
    parts = []
    if "images" in scores:
        parts.append(f"{scores['images']:.0f} images")
    if "height" in scores and "width" in scores:
        parts.append(f"scored at {scores['height']:.0f}×{scores['width']:.0f} (height × width)")
    if "attention_masks" in scores:
        parts.append("attention masks" if scores["attention_masks"] else "decoder masks")
        if scores.get("parent_masks"):
            parts[-1] = "parents' masks"
    empty = scores.get("images_without_foreground", 0)
    if empty:
        parts.append(f"{empty:.0f} without an object, left out of FG-ARI, mBO and mIoU")
    return ", ".join(parts)


def _other_scores(results: Mapping[str, Mapping[str, float]]) -> list[str]:
    names = dict.fromkeys(name for scores in results.values() for name in scores)
    return [n for n in names if n in DEFINITIONS and n not in HEADLINE and n not in _COUNTS]


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _chart(chart: Any) -> dict[str, Any]:
    return {
        "title": chart.title,
        "note": chart.note,
        "svg": Markup(chart_svg(chart)),
        "legend": [
            {
                "name": series.name,
                "color": series_color(index),
                "last": f"{series.curve.values[-1]:.4g}",
            }
            for index, series in enumerate(chart.series)
        ],
    }


def _similarity_levels(config: Mapping[str, Any]) -> list[tuple[float, str]]:
    monitor = config.get("SLOT_MONITOR")
    if not isinstance(monitor, Mapping):
        return []
    named = (("SIMILARITY_WARNING", "warning"), ("SIMILARITY_ERROR", "collapsed"))
    return [
        (float(monitor[key]), label)
        for key, label in named
        if isinstance(monitor.get(key), int | float)
    ]


def _monitor(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The last verdict, and the looks at which the verdict or its message changed."""
    judged = [look for look in looks if look.get("verdict")]
    if not judged:
        return None
    changes = [
        look
        for index, look in enumerate(judged)
        if index == 0 or look["verdict"] != judged[index - 1]["verdict"]
    ]
    return {
        "last": _look(judged[-1]),
        "changes": [_look(look) for look in changes],
        "looks": len(judged),
        "counts": Counter(str(look["verdict"]) for look in judged),
    }


def _look(look: Mapping[str, Any]) -> dict[str, Any]:
    return {
        # Logged from 0: the first look after n steps carries n - 1.
        "steps": str(look["iteration"] + 1) if isinstance(look.get("iteration"), int) else "?",
        "verdict": str(look["verdict"]),
        "message": str(look.get("message") or ""),
        "similarity": _number(look.get("similarity")),
        "mask_entropy": _number(look.get("mask_entropy")),
        "slots_in_use": _number(look.get("slots_in_use")),
    }


def _planes(looks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where slots started at the last look that recorded it, as pictures with names."""
    recorded = (look.get("seed_planes") for look in reversed(looks))
    planes = next((planes for planes in recorded if isinstance(planes, list)), [])
    return [
        {
            "image": plane["image"],
            "svg": Markup(slot_plane_svg(plane)),
            "caption": slot_plane_caption(plane),
        }
        for plane in planes
        if _is_plane(plane)
    ]


def _is_plane(plane: Any) -> bool:
    """Whether a record can be drawn: a file that others write may hold anything."""
    try:
        numbers = [plane["similarity"], plane["explained"], *sum(plane["points"], [])]
        return (
            isinstance(plane["image"], str)
            and isinstance(plane["seeded"], int)
            and all(len(point) == 2 for point in plane["points"])
            and all(math.isfinite(number) for number in numbers)
        )
    except (KeyError, TypeError):
        return False


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:.3g}"


def _example_group(group: str, examples: Sequence[Example]) -> dict[str, Any]:
    return {
        "title": _GROUP_TITLES[group],
        "examples": [_example(example) for example in examples if example.group == group],
    }


def _legend(examples: Sequence[Example | PanopticExample]) -> list[tuple[str, str]]:
    """Names and CSS colours of the classes that are shown."""
    panoptic = [example for example in examples if isinstance(example, PanopticExample)]
    return [(name, _css_color(color)) for name, color in class_legend(panoptic)]


def _css_color(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*map(int, color))


def _example(example: Example | PanopticExample) -> dict[str, Any]:
    if isinstance(example, PanopticExample):
        panels, slots = panoptic_panels(example), []
        scores = [(name, format_percent(value)) for name, value in example.scores.items()]
    else:
        panels, slots = example_panels(example)
        scores = [
            (name, format_score(name, example.scores[name]))
            for name in HEADLINE
            if name in example.scores
        ]
    return {
        "name": os.path.basename(example.name),
        "scores": scores,
        "panels": [_picture(panel, _PANEL_SIDE) for panel in panels],
        "slots": [_picture(slot, _SLOT_SIDE) for slot in slots if not slot.unused],
        # There may be many more slots than objects; their empty pictures would only take room.
        "unused": _unused_slots([number for number, slot in enumerate(slots) if slot.unused]),
    }


def _picture(panel: Panel, side: int) -> dict[str, Any]:
    """Label, data URI and colour; large pictures are scaled down, small flat ones enlarged."""
    height, width = panel.picture.shape[:2]
    picture = panel.picture
    if max(height, width) > side:
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_NEAREST if panel.flat else cv2.INTER_AREA
        picture = cv2.resize(picture, size, interpolation=method)
    elif panel.flat:
        # Browsers blur what they enlarge; doubled pixels keep their edges.
        picture = enlarge(picture, enlargement((height, width), _FLAT_SIDE))
    color = _css_color(panel.color) if panel.color else None
    return {"label": panel.label, "uri": data_uri(picture), "color": color}


def _unused_slots(numbers: list[int]) -> str:
    """A sentence on the slots that win no pixel; empty if there are none."""
    if not numbers:
        return ""
    listed = ", ".join(map(str, numbers))
    return f"Slot {listed} wins no pixel." if len(numbers) == 1 else f"Slots {listed} win no pixel."


def _summary(run: RunFolder) -> list[str]:
    """A few words that tell one run from another."""
    record = run.run
    parts = []
    if isinstance(record.get("iterations"), int):
        parts.append(f"{record['iterations']} steps")
    if isinstance(record.get("train_seconds"), int | float):
        parts.append(f"{format_seconds(record['train_seconds'])} of training")
    if record.get("seed") is not None:
        parts.append(f"seed {record['seed']}")
    machine = record.get("machine")
    if isinstance(machine, Mapping):
        kind = machine.get("device")
        parts.append(str(machine.get("processor", kind)) if kind in (None, "cpu") else str(kind))
    return parts


def _settings(config: Mapping[str, Any], *, with_slots: bool) -> list[tuple[str, str]]:
    found = []
    for label, key in _KEY_SETTINGS:
        if not with_slots and key.startswith(_OF_SLOT_MODELS):
            continue
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None or value in ([], ()):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        found.append((label, text))
    return found


def _command(record: Mapping[str, Any]) -> str:
    command = record.get("command")
    if isinstance(command, list | tuple):
        return shlex.join(map(str, command))
    return str(command) if command else ""


def _date(value: Any) -> str:
    """An ISO date and time as people write it; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value or "")
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _origin(record: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the run was made with and on, as titled lists."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    for title, key, label in (("Versions", "versions", str), ("Machine", "machine", _label)):
        values = record.get(key)
        if isinstance(values, Mapping) and values:
            groups.append((title, [(label(str(k)), str(v)) for k, v in values.items()]))
    run = []
    for label, key in (
        ("Seed", "seed"),
        ("Steps", "iterations"),
        ("Steps planned", "max_iterations"),
        ("Parameters", "parameters"),
        ("Processes", "processes"),
    ):
        if record.get(key) is not None:
            value = record[key]
            run.append((label, f"{value:,}" if key == "parameters" else str(value)))
    for label, key in (("Training time", "train_seconds"), ("Whole run", "total_seconds")):
        if isinstance(record.get(key), int | float):
            run.append((label, format_seconds(record[key])))
    if record:
        run.append(("Started", _date(record.get("started")) or "not recorded"))
        run.append(("Finished", _date(record.get("finished")) or "not finished"))
    if run:
        groups.insert(0, ("Run", run))
    return groups
