"""Command line, config, device, log and seeds of a training or an evaluation."""

from __future__ import annotations

import argparse
import logging
import sys

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from slotseg.config import get_cfg
from slotseg.engine.rng import seed_all
from slotseg.engine.run_info import command_line, machine, versions

_LOGGERS = ("slotseg", "detectron2", "fvcore")


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Detectron2's options: ``--config-file --resume --eval-only --num-gpus ... KEY VALUE ...``."""
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"""examples:
  train:               {sys.argv[0]} --config-file cfg.yaml OUTPUT_DIR output/run
  go on after a stop:  {sys.argv[0]} --config-file cfg.yaml --resume OUTPUT_DIR output/run
  change an option:    {sys.argv[0]} --config-file cfg.yaml SOLVER.BASE_LR 0.001
  score a checkpoint:  {sys.argv[0]} --config-file cfg.yaml --eval-only MODEL.WEIGHTS model.pth
  score the student:   {sys.argv[0]} --config-file cfg.yaml --eval-only TEST.WEIGHTS_OF student
                       (of a run with MEAN_TEACHER, whose teacher is scored otherwise)
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="path to a config file")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR; without one start anew",
    )
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="score MODEL.WEIGHTS or, if empty, the best checkpoint in OUTPUT_DIR",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        help="GPUs on each machine, one process each; 0: one process on the CPU "
        "(default: %(default)s, or the CPU where there is no CUDA)",
    )
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument(
        "--machine-rank", type=int, default=0, help="number of this machine, from 0"
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="where processes meet, tcp://host:port (default: a free local port)",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="options of the config: KEY VALUE ..."
    )
    return parser


def setup(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a command line, with log, seeds and output folder ready.

    Raises:
        ConfigError: see :func:`slotseg.config.get_cfg`.
    """
    cfg = get_cfg(args.config_file or None, args.opts or [])
    wanted = cfg.MODEL.DEVICE
    if args.num_gpus == 0:
        cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    default_setup(cfg, args)
    if args.num_gpus > 0 and wanted != cfg.MODEL.DEVICE:
        logging.getLogger(__name__).info(
            f"MODEL.DEVICE is {wanted} but CUDA is not available here: using the CPU"
        )
    return cfg


def available_device(device: str) -> str:
    """``device``, or ``cpu`` where it asks for CUDA and there is none."""
    return "cpu" if device.startswith("cuda") and not torch.cuda.is_available() else device


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Output folder, log (terminal and ``OUTPUT_DIR/log.txt``) and seeds.

    A negative ``SEED`` means 0: every run can be repeated. Ranks draw different numbers.
    """
    rank = comm.get_rank()
    if comm.is_main_process():
        PathManager.mkdirs(cfg.OUTPUT_DIR)
    comm.synchronize()
    for name in _LOGGERS:
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name, color=sys.stdout.isatty())
    # Two lines about serialisation for every loader, and every evaluation builds one.
    logging.getLogger("detectron2.data.common").setLevel(logging.WARNING)
    logger = logging.getLogger(__name__)
    logger.info(f"Command: {command_line()}")
    found = versions() | machine(torch.device(cfg.MODEL.DEVICE))
    logger.info(", ".join(f"{key} {value}" for key, value in found.items()))
    seed_all(max(cfg.SEED, 0) + rank)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
