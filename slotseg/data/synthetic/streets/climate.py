"""Camera, light and weather of a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets.camera import StreetCamera
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.palette import PAINTS, paint, pick
from slotseg.data.synthetic.streets.scene import Color, FrameRegion, Light, Weather


@dataclass(frozen=True)
class CameraStyle:
    """How a data set's cars look at the street.

    Attributes:
        focal: range of focal lengths as shares of the width.
        horizon: range of the horizon's row as a share of the height.
        height: range of heights above the road, metres.
        hood, border: probability that the car's hood, or a border of rectification, is in view.
        night: probability of a night scene.
    """

    focal: tuple[float, float]
    horizon: tuple[float, float]
    height: tuple[float, float]
    hood: float
    border: float
    night: float


#: By the data set that the pictures stand for.
CAMERA_STYLES: dict[str, CameraStyle] = {
    "cityscapes": CameraStyle((0.9, 1.15), (0.40, 0.48), (1.2, 1.5), 0.85, 0.6, 0.02),
    "kitti": CameraStyle((0.54, 0.62), (0.42, 0.50), (1.55, 1.75), 0.0, 0.0, 0.0),
    "bdd100k": CameraStyle((0.75, 1.0), (0.42, 0.56), (1.15, 1.6), 0.5, 0.0, 0.15),
}


def sample_camera(rng: np.random.Generator, style: CameraStyle) -> StreetCamera:
    """Draw a camera and the shape of the street ahead."""
    bend = 0.0 if rng.random() < 0.45 else float(rng.normal(0, 1 / 190))
    turning = rng.random() < 0.18
    return StreetCamera(
        height=float(rng.uniform(*style.height)),
        lateral=float(rng.normal(0, 0.35)),
        yaw=float(rng.normal(0, 0.16 if turning else 0.03)),
        focal=float(rng.uniform(*style.focal)),
        horizon=float(rng.uniform(*style.horizon)),
        bend=float(np.clip(bend, -1 / 70, 1 / 70)),
        hill=0.0 if rng.random() < 0.6 else float(np.clip(rng.normal(0, 3e-4), -4e-4, 7e-4)),
    )


def sample_climate(rng: np.random.Generator, style: CameraStyle) -> tuple[Light, Weather]:
    """Draw the light and the weather together."""
    night = rng.random() < style.night
    sunny = not night and rng.random() < 0.5
    azimuth = float(rng.uniform(0, 2 * math.pi))
    elevation = float(rng.uniform(0.2, 1.0))
    level = math.cos(elevation)
    sun = np.array([level * math.sin(azimuth), math.sin(elevation), level * math.cos(azimuth)])
    if night:
        top, low = (0.02, 0.03, 0.06), (0.10, 0.09, 0.10)
    elif sunny:
        top = (0.30 + 0.1 * rng.random(), 0.48 + 0.08 * rng.random(), 0.78)
        low = (0.74, 0.80, 0.88) if elevation > 0.4 else (0.90, 0.80, 0.66)
    else:
        grey = float(rng.uniform(0.62, 0.95))
        top, low = (grey * 0.93, grey * 0.96, grey), (grey, grey, grey * 0.99)
    foggy = rng.random() < 0.13
    warm = float(rng.normal(0.0, 0.05)) + (0.05 if sunny and elevation < 0.4 else 0.0)
    light = Light(
        sun=sun,
        direct=float(rng.uniform(0.45, 0.75)) if sunny else 0.06,
        ambient=float(rng.uniform(0.42, 0.60)) if sunny else float(rng.uniform(0.62, 0.92)),
    )
    weather = Weather(
        sky_top=_as_color(top),
        sky_low=_as_color(low),
        clouds=float(rng.uniform(0.0, 0.9)) if sunny else float(rng.uniform(0.0, 0.3)),
        fog=1 / float(rng.uniform(45, 110)) if foggy else 1 / float(rng.uniform(250, 1500)),
        tint=(1 + warm, 1 + float(rng.normal(0, 0.015)), 1 - warm),
        exposure=0.5 if night else float(rng.uniform(0.85, 1.3)),
        gamma=float(rng.uniform(0.85, 1.25)),
        saturation=float(rng.uniform(0.45, 1.15)),
        vignette=float(rng.uniform(0.0, 0.4)),
        noise=float(rng.uniform(0.004, 0.02)) * (1.6 if night else 1.0),
        blur=float(rng.uniform(0.0006, 0.0016)),
        shadow=float(rng.uniform(0.45, 0.65)) if sunny else float(rng.uniform(0.78, 0.95)),
    )
    return light, weather


def sample_frame(rng: np.random.Generator, style: CameraStyle) -> list[FrameRegion]:
    """Draw what the picture shows of the car itself, and the borders of rectification."""
    regions: list[FrameRegion] = []
    if rng.random() < style.hood:
        color = paint(rng, PAINTS)
        crest = float(rng.uniform(0.84, 0.97))
        x = np.linspace(-0.05, 1.05, 24)
        fall = float(rng.uniform(0.05, 0.35))
        arch = crest + fall * np.abs(x - float(rng.uniform(0.42, 0.58))) ** 2 * 2
        outline = np.concatenate([np.stack([x, arch], axis=1), [(1.05, 1.1), (-0.05, 1.1)]])
        regions.append(FrameRegion(ID["ego vehicle"], outline, color))
        shine = outline.copy()
        shine[:24, 1] += float(rng.uniform(0.02, 0.05))
        tone = tuple(min(c * 1.3 + 0.05, 0.95) for c in color)
        regions.append(FrameRegion(ID["ego vehicle"], shine, _as_color(tone)))
        if rng.random() < 0.4:
            badge = np.array([(0.49, crest + 0.03), (0.5, crest - 0.04), (0.51, crest + 0.03)])
            regions.append(FrameRegion(ID["ego vehicle"], badge, pick(rng, PAINTS)))
    if rng.random() < style.border:
        thick = float(rng.uniform(0.004, 0.012))
        bow = float(rng.uniform(0.0, 0.012))
        y = np.linspace(0, 1, 16)
        inner = thick + bow * (2 * y - 1) ** 2
        left = np.concatenate([np.stack([inner, y], axis=1), [(-0.1, 1.1), (-0.1, -0.1)]])
        right = left * (-1, 1) + (1, 0)
        for outline in (left, right):
            regions.append(FrameRegion(ID["rectification border"], outline, (0.0, 0.0, 0.0)))
        if rng.random() < 0.5:
            strip = np.array([(-0.1, 1.1), (1.1, 1.1), (1.1, 1 - thick), (-0.1, 1 - thick)])
            regions.append(FrameRegion(ID["out of roi"], strip, (0.0, 0.0, 0.0)))
    return regions


def _as_color(values: tuple[float, ...]) -> Color:
    return (float(values[0]), float(values[1]), float(values[2]))
