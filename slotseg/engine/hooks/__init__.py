"""Per-step bookkeeping, one hook a file."""

from slotseg.engine.hooks.best_checkpoint import BestCheckpoint
from slotseg.engine.hooks.curriculum import Curriculum
from slotseg.engine.hooks.evaluation import Evaluation
from slotseg.engine.hooks.example_pictures import ExamplePictures
from slotseg.engine.hooks.mean_teacher import Labeller, MeanTeacher
from slotseg.engine.hooks.metric_writer import MetricWriter
from slotseg.engine.hooks.mixing import Mixing
from slotseg.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from slotseg.engine.hooks.progress_bar import ProgressBar
from slotseg.engine.hooks.run_record import RunRecord
from slotseg.engine.hooks.slot_monitor import SlotMonitor

__all__ = [
    "BestCheckpoint",
    "Curriculum",
    "Evaluation",
    "ExamplePictures",
    "Labeller",
    "MeanTeacher",
    "MetricWriter",
    "Mixing",
    "PeriodicCheckpoint",
    "ProgressBar",
    "RunRecord",
    "SlotMonitor",
]
