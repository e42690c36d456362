"""What ``tools/train_net.py`` does, as functions."""

from __future__ import annotations

import argparse
import logging
import os

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from slotseg.engine.checkpoint import load_weights, weights_for_inference
from slotseg.engine.cli import user_errors
from slotseg.engine.defaults import setup
from slotseg.engine.hooks.run_record import read_run_record
from slotseg.engine.results import (
    EVAL_ONLY_FOLDER,
    RESULTS_FILE,
    Results,
    format_results,
    write_results,
)
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError

_logger = logging.getLogger(__name__)


def train_net(args: argparse.Namespace) -> None:
    """Train or, with ``--eval-only``, score: the work of one process."""
    with user_errors():
        cfg = setup(args)
        if args.eval_only:
            evaluate_weights(cfg)
        else:
            train(cfg, resume=args.resume)


def train(cfg: CfgNode, *, resume: bool = False) -> Results:
    """Train as the config says, or go on with an interrupted run.

    A finished run is left as it is: nothing is built or loaded.

    Returns:
        ``{set: {task: {score: value}}}`` on the main rank; empty if the run was finished before.
    """
    if resume and is_finished(cfg):
        _logger.info(
            f"{cfg.OUTPUT_DIR}: the run is finished; raise SOLVER.MAX_ITER to train longer, or "
            "choose another OUTPUT_DIR"
        )
        return {}
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer.train()


def evaluate_weights(cfg: CfgNode) -> Results:
    """Score ``MODEL.WEIGHTS``, or the best checkpoint in ``OUTPUT_DIR``, or the last one; a model
    that loads weights by itself (``MODEL.HUGGINGFACE.PRETRAINED``) needs none of these. Of a run
    with a teacher it is the teacher that is scored, unless ``TEST.WEIGHTS_OF`` is "student".

    Prints a table and writes ``OUTPUT_DIR/eval_only/results.json``; a run's own results stay.

    Raises:
        CheckpointError: there are no weights, or they are of another model.
        ConfigError: ``DATASETS.TEST`` is empty.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST: empty; name a data set to score on")
    weights = weights_for_inference(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, EVAL_ONLY_FOLDER)
    cfg.freeze()
    model = Trainer.build_model(cfg)
    load_weights(
        model, weights, trust_pickle=cfg.MODEL.TRUST_PICKLE, weights_of=cfg.TEST.WEIGHTS_OF
    )
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        print(format_results(results))
        write_results(results, os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE))
    return results


def is_finished(cfg: CfgNode) -> bool:
    """Whether ``OUTPUT_DIR`` holds a run of at least ``SOLVER.MAX_ITER`` iterations with scores."""
    done = read_run_record(cfg.OUTPUT_DIR).get("iterations", 0)
    has_results = PathManager.isfile(os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE))
    return has_results and done >= cfg.SOLVER.MAX_ITER
