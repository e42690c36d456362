"""Configs that build on one another, trained one rung at a time.

Each rung changes one thing. A rung whose slots have collapsed, or whose score is under its gate, is
not built upon: what comes after it would only be measured on something broken.
"""

from slotseg.ladder.command import climb
from slotseg.ladder.definition import Ladder, Pretraining, Rung, read_ladder
from slotseg.ladder.health import Health, judge
from slotseg.ladder.plan import LadderPlan, RungPlan, make_ladder_plan
from slotseg.ladder.plots import draw_ladder
from slotseg.ladder.records import LadderRecord, RungRecord
from slotseg.ladder.tables import ladder_table

__all__ = [
    "Health",
    "Ladder",
    "LadderPlan",
    "LadderRecord",
    "Pretraining",
    "Rung",
    "RungPlan",
    "RungRecord",
    "climb",
    "draw_ladder",
    "judge",
    "ladder_table",
    "make_ladder_plan",
    "read_ladder",
]
