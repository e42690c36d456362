"""Training: loop, hooks, checkpoints, and the command line around them."""

from slotseg.engine.checkpoint import SlotSegCheckpointer, find_trained_weights, load_weights
from slotseg.engine.cli import user_errors
from slotseg.engine.commands import evaluate_weights, is_finished, train, train_net
from slotseg.engine.defaults import default_argument_parser, default_setup, setup
from slotseg.engine.launch import launch
from slotseg.engine.lr_schedule import build_lr_schedule
from slotseg.engine.optimizer import build_optimizer
from slotseg.engine.trainer import Trainer

__all__ = [
    "SlotSegCheckpointer",
    "Trainer",
    "build_lr_schedule",
    "build_optimizer",
    "default_argument_parser",
    "default_setup",
    "evaluate_weights",
    "find_trained_weights",
    "is_finished",
    "launch",
    "load_weights",
    "setup",
    "train",
    "train_net",
    "user_errors",
]
