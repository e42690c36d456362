"""What each of several changes to a training does, over several seeds and on the same budget.

A study names a config and variants of it; every variant is trained with every seed in a process of
its own and compared with a reference, seed by seed. What ran before is not run again.
"""

from slotseg.ablation.command import ablate, write_study
from slotseg.ablation.definition import Curve, Study, Variant, read_study
from slotseg.ablation.launchers import SLURM, TORCHRUN, launch_commands
from slotseg.ablation.plan import StudyPlan, Trial, make_study_plan
from slotseg.ablation.plots import draw_study
from slotseg.ablation.records import StudyRecord, TrialRecord, read_study_record
from slotseg.ablation.statistics import Difference, paired_difference
from slotseg.ablation.tables import study_csv, study_table

__all__ = [
    "SLURM",
    "TORCHRUN",
    "Curve",
    "Difference",
    "Study",
    "StudyPlan",
    "StudyRecord",
    "Trial",
    "TrialRecord",
    "Variant",
    "ablate",
    "draw_study",
    "launch_commands",
    "make_study_plan",
    "paired_difference",
    "read_study",
    "read_study_record",
    "study_csv",
    "study_table",
    "write_study",
]
