import math

import pytest

from slotseg.errors import ConfigError
from slotseg.semi.ramp import RampUp


def test_nothing_then_a_rise_then_a_constant():
    ramp = RampUp(weight=2.0, start=100, length=50)
    assert ramp(0) == ramp(99) == 0.0
    assert ramp(100) == pytest.approx(2.0 * math.exp(-5.0))
    assert ramp(125) == pytest.approx(2.0 * math.exp(-5.0 / 4))
    assert ramp(150) == ramp(10**6) == 2.0
    values = [ramp(iteration) for iteration in range(99, 152)]
    assert values == sorted(values)


def test_without_a_ramp_it_is_a_step():
    ramp = RampUp(weight=0.5, start=3)
    assert [ramp(iteration) for iteration in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("key", ["weight", "start", "length"])
def test_negative_values_are_refused(key):
    name = {"length": "RAMP"}.get(key, key.upper())
    with pytest.raises(ConfigError, match=f"SEMI.{name}: -1 should be at least 0"):
        RampUp(**{key: -1})
