"""What ``tools/compare.py`` does: run, and write the results after every model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from detectron2.data import DatasetCatalog

from slotseg.comparison.plan import Plan
from slotseg.comparison.plots import draw_comparison
from slotseg.comparison.published import Published
from slotseg.comparison.records import Row, rows_of
from slotseg.comparison.runner import run_jobs
from slotseg.comparison.tables import csv_table, markdown_table
from slotseg.files import write_atomically

NAME = "comparison"


def compare(
    plan: Plan,
    *,
    added: Sequence[Row] = (),
    published: Sequence[Published] = (),
    processes: int = 1,
) -> list[Row]:
    """Run what is not done yet and write ``comparison.{md,csv,png,json}`` into the plan's folder.

    The files are brought up to date after every job, so that a comparison that is stopped leaves
    what it knows.

    Args:
        plan: from :func:`slotseg.comparison.plan.make_plan`.
        added: rows that other programs measured.
        published: figures to be shown beside.
        processes: trainings at once, see :func:`slotseg.comparison.runner.run_jobs`.

    Returns:
        All measured rows; those that failed say why.

    Raises:
        DatasetError: a data set is not there or damaged.
    """
    # Without the data every model would fail by itself, one after the other.
    for name in dict.fromkeys((plan.dataset, *plan.train_datasets)):
        DatasetCatalog.get(name)
    rows: list[Row] = []
    for _ in run_jobs(plan, processes=processes):
        rows = [*rows_of(plan.jobs), *added]
        write_comparison(plan, rows, published)
    return rows


def write_comparison(plan: Plan, rows: Sequence[Row], published: Sequence[Published] = ()) -> None:
    """Write the table as Markdown and CSV, the picture as PNG, and everything as JSON."""
    base = os.path.join(plan.output, NAME)
    content = {
        "dataset": plan.dataset,
        "train_datasets": plan.train_datasets,
        "train_minutes": plan.minutes,
        "clock": plan.clock,
        "chosen": plan.chosen,
        "rows": [row.as_dict() for row in rows],
        "published": [asdict(figures) for figures in published],
    }
    write_atomically(f"{base}.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_atomically(f"{base}.csv", csv_table(rows))
    write_atomically(
        f"{base}.md",
        plan_table(plan, rows, published),
    )
    picture = draw_comparison(rows, dataset=plan.dataset, clock=plan.clock)
    write_atomically(f"{base}.png", picture)


def plan_table(plan: Plan, rows: Sequence[Row], published: Sequence[Published] = ()) -> str:
    """The table of a plan, see :func:`slotseg.comparison.tables.markdown_table`."""
    return markdown_table(
        rows,
        dataset=plan.dataset,
        minutes=plan.minutes,
        clock=plan.clock,
        chosen=plan.chosen,
        published=published,
    )
