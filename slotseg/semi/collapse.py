"""When pseudo labels have stopped to teach something, in words."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from slotseg.semi.tally import LabelTally

logger = logging.getLogger(__name__)

# Images before the first word, and between two of them.
_FIRST_LOOK = 200
_SILENCE = 2000
# Kept share of all pixels below which there is nothing to learn from.
_NOTHING = 0.01
# A class is lost if it has at least this share of the predicted pixels, and keeps less than that
# share of its own.
_PREDICTED, _KEPT = 0.002, 0.01
# A class takes over if it has more than this share of all kept pixels, and if its odds among them
# are this many times those among labelled pixels.
_MOST = 0.5
_ODDS = 4.0


class CollapseWatch:
    """Warns now and then where nothing is kept, in all or of a class, or one class takes all.

    Args:
        names: of the classes; empty for models without classes.

    Attributes:
        last_said: at how many images the last warning was; None: never.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.last_said: int | None = None

    def look(self, tally: LabelTally) -> str | None:
        """Log and return the warning that is due, if one is."""
        since = tally.images - (-_SILENCE if self.last_said is None else self.last_said)
        if tally.images < _FIRST_LOOK or since < _SILENCE:
            return None
        message = describe_collapse(tally, self.names)
        if message is not None:
            self.last_said = tally.images
            logger.warning(message)
        return message


def describe_collapse(tally: LabelTally, names: Sequence[str]) -> str | None:
    """What is wrong with the pseudo labels that ``tally`` counted; None: nothing."""
    if tally.kept_share < _NOTHING:
        return (
            f"Pseudo labels: of the last images {tally.kept_share:.1%} of the pixels were kept "
            f"(the teacher was too unsure of {tally.uncertain_share:.0%}, and of the others their "
            "segments), so the student learns nothing from them; begin later (SEMI.START), or "
            "change PSEUDO_LABELS.MAX_UNCERTAINTY, MIN_CONFIDENCE_THINGS or MIN_CONFIDENCE_STUFF"
        )
    if len(names) < 2:
        return None
    largest = int(tally.kept.argmax())
    share = float(tally.kept[largest] / tally.kept.sum())
    true = float(tally.labeled[largest] / tally.labeled.sum().clamp_min(1.0))
    if share > _MOST and share * (1.0 - true) > _ODDS * true * (1.0 - share):
        return (
            f"Pseudo labels: class {names[largest]} has {share:.0%} of all kept pixels of the last "
            f"images and {true:.0%} of the labelled ones, so the student learns to see it "
            "everywhere; begin later (SEMI.START), lower SEMI.WEIGHT, or raise "
            "PSEUDO_LABELS.MIN_CONFIDENCE_THINGS or MIN_CONFIDENCE_STUFF"
        )
    common = tally.predicted / tally.predicted.sum() >= _PREDICTED
    lost = [names[c] for c, kept in tally.kept_by_class().items() if common[c] and kept < _KEPT]
    if not lost:
        return None
    return (
        f"Pseudo labels: of the last images' pixels that the teacher calls {', '.join(lost)} next "
        "to none were kept, so the student learns these classes from labelled images alone; "
        "change PSEUDO_LABELS.MAX_UNCERTAINTY, MIN_CONFIDENCE_THINGS or MIN_CONFIDENCE_STUFF"
    )
