"""What ``tools/ladder.py`` does: train rung by rung, and not build on one that is not healthy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from slotseg.comparison.plan import failure_file, phase_file
from slotseg.comparison.runner import run_phase_in_process, run_side_by_side
from slotseg.config import get_cfg
from slotseg.engine.config_changes import config_changes
from slotseg.errors import CheckpointError, ConfigError
from slotseg.files import write_atomically
from slotseg.ladder.page import ladder_page
from slotseg.ladder.plan import LadderPlan, PretrainingPlan, RungPlan
from slotseg.ladder.plots import draw_ladder
from slotseg.ladder.records import (
    LadderRecord,
    RungRecord,
    budget_in_words,
    read_pretraining,
    read_rung,
)
from slotseg.ladder.tables import ladder_table, rung_in_words

NAME = "ladder"
# What a pre-training's weights depend on; the rest of its config may change.
_DECISIVE = ("MODEL", "INPUT", "DATASETS", "LOSSES")


def climb(
    plan: LadderPlan, *, processes: int = 1, climb_anyway: bool = False
) -> Iterator[LadderRecord]:
    """Run what is not done yet; yield what is known after every training.

    The files ``ladder.{json,md,html,png}`` in the plan's folder are brought up to date each time,
    so that a climb that is stopped leaves what it knows. Start it again to go on.

    Args:
        plan: from :func:`slotseg.ladder.plan.make_ladder_plan`.
        processes: trainings at once.
        climb_anyway: build also on a rung that is not healthy.

    Raises:
        CheckpointError: a pre-training failed.
        ConfigError: a pre-training's folder holds another one.
        DatasetError: a data set is not there or damaged.
    """
    cfg = get_cfg(plan.ladder.rungs[0].config_file, plan.overrides)
    for name in dict.fromkeys((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)):
        DatasetCatalog.get(name)
    _pretrain(plan.pretraining(), processes)
    planned = [plan.rung(rung) for rung in plan.ladder.rungs]
    record = LadderRecord(
        name=plan.ladder.name,
        dataset=cfg.DATASETS.TEST[0],
        scores=plan.ladder.scores,
        budget=budget_in_words(plan),
        memory_size=plan.memory_size,
        pretraining=tuple(read_pretraining(entry) for entry in plan.pretraining()),
        rungs=tuple(read_rung(rung) for rung in planned),
    )
    trainings = sum(len(rung.jobs) for rung in planned)
    with tqdm(total=trainings, desc="climbing", unit="training", disable=None) as bar:
        for index, rung in enumerate(planned):
            bar.set_postfix_str(rung.rung.name)
            for _ in _train(rung, processes):
                bar.update()
                record = _updated(record, index, rung)
                write_ladder(plan.output, record)
                yield record
            _measure(rung)
            record = _updated(record, index, rung)
            reached = record.rungs[index]
            tqdm.write(rung_in_words(record, index))
            is_top = index == len(planned) - 1
            if not climb_anyway and not is_top:
                record = replace(record, stopped=refusal(reached, planned[index + 1].rung.name))
            write_ladder(plan.output, record)
            yield record
            if record.stopped:
                break


def refusal(reached: RungRecord, following: str) -> str:
    """Why ``following`` is not climbed, in one sentence; empty if nothing is wrong."""
    if reached.health is not None and reached.health.is_safe:
        return ""
    reasons = reached.health.reasons if reached.health else ("it was not trained",)
    return (
        f"{following} is not climbed because {reached.name} below it is not healthy: "
        f"{'; '.join(reasons)}. Mend it, or give --climb-anyway."
    )


def write_ladder(output: str, record: LadderRecord) -> None:
    """Write the table as Markdown and as a page, the picture as PNG, and everything as JSON."""
    base = os.path.join(output, NAME)
    picture = draw_ladder(record)
    text = json.dumps(record.as_dict(), indent=2, allow_nan=False) + "\n"
    write_atomically(f"{base}.json", text)
    write_atomically(f"{base}.md", ladder_table(record))
    write_atomically(f"{base}.html", ladder_page(record, picture))
    write_atomically(f"{base}.png", picture)


def _pretrain(entries: list[PretrainingPlan], processes: int) -> None:
    for entry in entries:
        _check_same_training(entry)
        done = phase_file(entry.job.folder, "train")
        if PathManager.isfile(done) and not PathManager.isfile(entry.weights):
            # Somebody cleaned up; train again.
            PathManager.rm(done)
    waiting = [e for e in entries if not PathManager.isfile(phase_file(e.job.folder, "train"))]
    with tqdm(total=len(waiting), desc="pre-training", disable=None) as bar:
        for job in run_side_by_side([e.job for e in waiting], "train", processes=processes):
            bar.update()
            failed = failure_file(job.folder, "train")
            if PathManager.isfile(failed):
                with PathManager.open(failed, "r") as file:
                    reason = file.read().strip()
                raise CheckpointError(f"the pre-training {job.name} failed: {reason}")


def _check_same_training(entry: PretrainingPlan) -> None:
    """Refuse to take what another config has left in the folder."""
    path = os.path.join(entry.job.folder, "config.yaml")
    if not PathManager.isfile(path):
        return
    with PathManager.open(path, "r") as file:
        changes = config_changes(file.read(), entry.job.config().dump())
    # Where a model runs does not change what it learns.
    decisive = [
        change
        for change in changes
        if change.partition(".")[0] in _DECISIVE and not change.startswith("MODEL.DEVICE ")
    ]
    if decisive:
        raise ConfigError(
            f"{entry.job.folder}: holds a pre-training with another config ({decisive[0]}); "
            f"remove it, or give {entry.config_file} another OUTPUT_DIR"
        )


def _train(planned: RungPlan, processes: int) -> Iterator[None]:
    for _ in run_side_by_side(planned.jobs, "score", processes=processes):
        yield


def _measure(planned: RungPlan) -> None:
    """Speed, parameters and memory, one process at a time, so that none disturbs another."""
    scored = [j for j in planned.jobs if PathManager.isfile(phase_file(j.folder, "score"))]
    if not scored:
        return
    run_phase_in_process(scored[0], "measure")
    if planned.memory_job is not None:
        run_phase_in_process(planned.memory_job, "memory")


def _updated(record: LadderRecord, index: int, planned: RungPlan) -> LadderRecord:
    rungs = list(record.rungs)
    rungs[index] = read_rung(planned)
    return replace(record, rungs=tuple(rungs))
