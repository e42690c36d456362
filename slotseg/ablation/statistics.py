"""What pairs of runs say about a difference.

Runs of two variants with the same seed start from the same weights and draw the same images, so
their difference varies less than the scores do; tests are made on these differences.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A variant minus the reference, seed by seed.

    Attributes:
        values: seed -> difference, of the seeds that both have.
        mean: over them.
        deviation: sample standard deviation; None for a single pair.
        interval: in which the true mean lies with 95 % confidence, if differences are normally
            distributed (Student's t); None for a single pair.
        p_value: of the two-sided paired t-test that the true mean is zero, not corrected for the
            number of variants that are tested; None for a single pair.
        improved: number of seeds with a higher score than the reference.
    """

    values: dict[int, float]
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    improved: int


def paired_difference(
    scores: Mapping[int, float], reference: Mapping[int, float]
) -> Difference | None:
    """Compare two variants over the seeds that both have; None if there is none.

    Args:
        scores: seed -> score of the variant; NaN counts as not there.
        reference: the same of the reference.
    """
    pairs = {
        seed: scores[seed] - reference[seed]
        for seed in sorted(scores.keys() & reference.keys())
        if not math.isnan(scores[seed] - reference[seed])
    }
    if not pairs:
        return None
    differences = list(pairs.values())
    mean = statistics.fmean(differences)
    improved = sum(difference > 0 for difference in differences)
    if len(differences) == 1:
        return Difference(pairs, mean, None, None, None, improved)
    deviation = statistics.stdev(differences)
    half = _student(len(differences)) * deviation / math.sqrt(len(differences))
    return Difference(
        pairs, mean, deviation, (mean - half, mean + half), _p_value(differences), improved
    )


def what_pairs_can_tell(pairs: int) -> str:
    """How far the test and the count can be trusted, in words.

    Args:
        pairs: seeds that the variants share.
    """
    if pairs < 2:
        return "With one seed nothing can be said about chance: give at least three --seeds."
    factor = _student(pairs) / math.sqrt(pairs)
    chance = 2**pairs
    text = (
        f"With {pairs} seeds p falls below {1 - _CONFIDENCE:.2f} only where the mean difference is "
        f"more than {factor:.1f} times its deviation"
    )
    if pairs <= 5:
        text += (
            f", so a small effect cannot be told from none; that all {pairs} seeds improve happens "
            f"to 1 in {chance} changes that do nothing"
        )
    return f"{text}."


def _student(pairs: int) -> float:
    # scipy takes half a second to import, and nothing else of a study needs it.
    from scipy.stats import t

    return float(t.ppf((1 + _CONFIDENCE) / 2, pairs - 1))


def _p_value(differences: list[float]) -> float:
    if len(set(differences)) == 1:
        # No deviation: the test divides by zero. Equal runs are no evidence, equal gains are.
        return 1.0 if differences[0] == 0 else 0.0
    from scipy.stats import ttest_1samp

    # The paired t-test is the one-sample test of the differences.
    return float(ttest_1samp(differences, 0.0).pvalue)
