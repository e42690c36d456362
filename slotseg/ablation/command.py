"""What ``tools/ablate.py`` does: run, and write the results after every training."""

from __future__ import annotations

import json
import os

from detectron2.data import DatasetCatalog
from tqdm import tqdm

from slotseg.ablation.plan import PHASE, StudyPlan
from slotseg.ablation.plots import draw_study
from slotseg.ablation.records import StudyRecord, read_study_record
from slotseg.ablation.tables import study_csv, study_table
from slotseg.comparison.runner import run_side_by_side
from slotseg.files import write_atomically

NAME = "ablation"


def ablate(plan: StudyPlan, *, processes: int = 1) -> StudyRecord:
    """Run what is not done yet and write ``ablation.{md,csv,json,png}`` into the plan's folder.

    The files are brought up to date after every training, so that a study that is stopped leaves
    what it knows; start it again to go on. A run that fails does not stop the others.

    Args:
        plan: from :func:`slotseg.ablation.plan.make_study_plan`.
        processes: trainings at once, see
            :func:`slotseg.comparison.runner.run_side_by_side`.

    Raises:
        DatasetError: a data set is not there or damaged.
    """
    # Without the data every run would fail by itself, one after the other.
    for name in dict.fromkeys((plan.dataset, *plan.train_datasets)):
        DatasetCatalog.get(name)
    record = write_study(plan)
    with tqdm(total=len(plan.jobs), desc="ablating", unit="training", disable=None) as bar:
        for job in run_side_by_side(plan.jobs, PHASE, processes=processes):
            bar.set_postfix_str(f"{job.name} seed {job.seed} is over")
            bar.update()
            record = write_study(plan)
    return record


def write_study(plan: StudyPlan) -> StudyRecord:
    """Read what the runs have left, and write table, picture and record."""
    record = read_study_record(plan)
    base = os.path.join(plan.output, NAME)
    text = json.dumps(record.as_dict(), indent=2, allow_nan=False) + "\n"
    write_atomically(f"{base}.json", text)
    write_atomically(f"{base}.csv", study_csv(record))
    write_atomically(f"{base}.md", study_table(record))
    write_atomically(f"{base}.png", draw_study(record))
    return record
