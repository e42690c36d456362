"""Several models on one data set, side by side: run, measure, tabulate, draw.

Every model runs in processes of its own, so that neither memory nor caches of one count for
another. What ran before is not run again.
"""

from slotseg.comparison.command import compare, plan_table
from slotseg.comparison.plan import AS_BUILT, Plan, make_plan, model_names
from slotseg.comparison.plots import draw_comparison
from slotseg.comparison.published import Published, load_published, published_names
from slotseg.comparison.records import Row, Run, read_added, rows_of
from slotseg.comparison.runner import run_jobs
from slotseg.comparison.tables import csv_table, markdown_table
from slotseg.comparison.tuning import (
    make_tuning_plan,
    read_chosen,
    require_other_split,
    tune,
    write_tuning,
)

__all__ = [
    "AS_BUILT",
    "Plan",
    "Published",
    "Row",
    "Run",
    "compare",
    "csv_table",
    "draw_comparison",
    "load_published",
    "make_plan",
    "make_tuning_plan",
    "markdown_table",
    "model_names",
    "plan_table",
    "published_names",
    "read_added",
    "read_chosen",
    "require_other_split",
    "rows_of",
    "run_jobs",
    "tune",
    "write_tuning",
]
