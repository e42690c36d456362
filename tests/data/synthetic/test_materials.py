from __future__ import annotations

import numpy as np
import pytest

from slotseg.data.synthetic import materials


def test_fresnel_at_normal_and_grazing_incidence() -> None:
    assert materials.fresnel(np.float32(1), 1.5) == pytest.approx(0.04, rel=1e-4)
    assert materials.fresnel(np.float32(0), 1.2) == pytest.approx(1)
    # Brewster's angle: only one polarisation is left.
    brewster = np.cos(np.arctan(1.5))
    perpendicular = ((1 - 1.5**2) / (1 + 1.5**2)) ** 2
    assert materials.fresnel(np.float64(brewster), 1.5) == pytest.approx(perpendicular / 2)


def hemisphere(n_v: float, count: int = 400) -> tuple[np.ndarray, ...]:
    """Cosines n_l, n_h, h_v and the solid angle of directions all over the hemisphere."""
    z, turn = np.meshgrid((np.arange(count) + 0.5) / count, np.arange(count) / count * 2 * np.pi)
    light = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z])
    view = np.array([np.sqrt(1 - n_v * n_v), 0, n_v])[:, None, None]
    half = light + view
    half /= np.linalg.norm(half, axis=0)
    return z, half[2], (half * view).sum(0), 2 * np.pi / count**2


@pytest.mark.parametrize("n_v", [0.95, 0.6, 0.3])
@pytest.mark.parametrize("function", ["ggx", "beckmann"])
def test_glossy_lobes_keep_nearly_all_light_and_make_none(function: str, n_v: float) -> None:
    n_l, n_h, _, cell = hemisphere(n_v)
    lobe = getattr(materials, function)(n_l, np.full_like(n_l, n_v), n_h, 0.2)
    assert 0.85 < lobe.sum() * cell <= 1.005


def test_rubber_makes_no_light() -> None:
    for n_v in (0.9, 0.4, 0.15):
        n_l, n_h, h_v, cell = hemisphere(n_v)
        base, coat, rim = materials.rubber_shares(np.float64(n_v))
        view = np.full_like(n_l, n_v)
        gloss = materials.rubber_gloss(n_l, view, n_h, h_v, coat, rim)
        total = base + gloss.sum() * cell  # of a white object: the base reflects all of its share
        assert 0.5 < total < 1.3
        assert base + coat + rim == pytest.approx(1)


def test_smooth_metal_reflects_no_more_than_the_lamp() -> None:
    n_h = np.cos(np.linspace(0, 0.2, 50))
    solid_angle = np.full(50, 0.006)
    level = materials.metal(np.full(50, 0.7), np.full(50, 0.7), n_h, solid_angle) * solid_angle
    assert level[0] <= 1 and level[0] > 0.6
    assert (np.diff(level) <= 0).all() and level[-1] < 0.05
