"""How many images are in by when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotseg.config import get_cfg
from slotseg.data.pacing import KINDS, Pacing
from slotseg.errors import ConfigError

pacings = st.builds(
    Pacing,
    st.sampled_from(KINDS),
    st.floats(0.01, 1.0),
    st.integers(0, 500),
    st.integers(1, 9),
)


@given(pacings, st.integers(1, 300))
def test_images_come_in_and_never_leave_until_all_are_in(pacing: Pacing, total: int) -> None:
    shares = [pacing.share(iteration) for iteration in range(pacing.end + 3)]
    assert shares == sorted(shares)
    assert shares[pacing.end :] == [1.0, 1.0, 1.0]
    if pacing.end:
        assert shares[0] == pytest.approx(pacing.start_share)
    counts = [pacing.num_images(iteration, total) for iteration in range(pacing.end + 3)]
    assert min(counts) >= 1 and counts[-1] == total
    exact = [share * total for share in shares]
    assert all(n - 1 < x + 1e-6 and x <= n + 1e-6 for n, x in zip(counts, exact, strict=True))


def test_linear_and_root_follow_their_formulas() -> None:
    linear, root = (Pacing(kind, 0.2, 100) for kind in ("linear", "root"))
    for iteration in range(100):
        passed = iteration / 100
        assert linear.share(iteration) == pytest.approx(0.2 + 0.8 * passed)
        assert root.share(iteration) ** 2 == pytest.approx(0.04 + 0.96 * passed)
        assert root.share(iteration) >= linear.share(iteration)


def test_with_root_as_many_images_come_in_every_round() -> None:
    """What comes in an iteration, times the iterations of a round, is constant."""
    root = Pacing("root", 0.1, 1000)
    growth = [
        (root.share(t + 1) - root.share(t)) * (root.share(t + 1) + root.share(t)) / 2
        for t in range(1000)
    ]
    assert max(growth) == pytest.approx(min(growth))


def test_steps_are_equal_and_all_are_in_with_the_last() -> None:
    stairs = Pacing("step", 0.25, 90, steps=3)
    shares = [stairs.share(iteration) for iteration in range(100)]
    assert sorted(set(shares)) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert [shares.index(share) for share in sorted(set(shares))] == [0, 30, 60, 90]


def test_whole_numbers_are_not_rounded_up() -> None:
    assert math.ceil(0.07 * 100) == 8
    assert Pacing("linear", 0.07, 10).num_images(0, 100) == 7


@pytest.mark.parametrize(
    ("overrides", "end"),
    [
        ((), 500),
        (("CURRICULUM.END", "0.25"), 250),
        (("CURRICULUM.END", "0.0"), 0),
        (("CURRICULUM.END_ITER", "70"), 70),
    ],
    ids=["default", "share", "at once", "iterations"],
)
def test_the_end_is_a_share_of_the_training_or_an_iteration(overrides, end) -> None:
    cfg = get_cfg(None, ["SOLVER.MAX_ITER", "1000", "CURRICULUM.PACING", "root", *overrides])
    assert Pacing.from_config(cfg) == Pacing("root", 0.25, end, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("PACING", "square"), "CURRICULUM.PACING: 'square' is unknown; choose from linear"),
        (("START_SHARE", "0.0"), "CURRICULUM.START_SHARE is 0.0"),
        (("START_SHARE", "1.5"), "CURRICULUM.START_SHARE is 1.5"),
        (("STEPS", "0"), "CURRICULUM.STEPS is 0"),
        (("END", "2000.0"), "iterations go into CURRICULUM.END_ITER"),
        (("END", "-0.1"), "CURRICULUM.END is -0.1"),
        (("END_ITER", "-1"), "CURRICULUM.END_ITER is -1"),
        (("END_ITER", "1001"), "the hardest images are never drawn"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_values_that_cannot_work(overrides, message) -> None:
    key, value = overrides
    cfg = get_cfg(None, ["SOLVER.MAX_ITER", "1000", f"CURRICULUM.{key}", value])
    with pytest.raises(ConfigError) as told:
        Pacing.from_config(cfg)
    assert message in str(told.value) and "\n" not in str(told.value)
