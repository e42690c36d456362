"""What a teacher's predictions have to be for a student to learn from them."""

from slotseg.semi.labeller import PseudoLabeller

__all__ = ["PseudoLabeller"]
