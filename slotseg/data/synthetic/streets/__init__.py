"""Driving scenes with the 19 classes of Cityscapes and exact panoptic truth, drawn in NumPy.

Scene number ``index`` of seed ``seed`` is always the same, whatever was drawn before it and in
whichever process. It is laid out in metres, so the same scene can be drawn at any size.
"""

from __future__ import annotations

from slotseg.data.synthetic.streets.climate import CAMERA_STYLES
from slotseg.data.synthetic.streets.layout import sample_street
from slotseg.data.synthetic.streets.render import MIN_INSTANCE_PIXELS, StreetImage, render
from slotseg.data.synthetic.streets.scene import StreetScene
from slotseg.errors import ConfigError

#: Raised whenever a change gives other pictures for the same seed: splits of an older version are
#: then made again instead of being mixed with new scenes.
GENERATOR_VERSION = 1

__all__ = [
    "CAMERA_STYLES",
    "GENERATOR_VERSION",
    "MIN_INSTANCE_PIXELS",
    "StreetImage",
    "StreetScene",
    "render",
    "render_street",
    "sample_street",
]


def render_street(
    seed: int,
    index: int,
    size: tuple[int, int] = (256, 512),
    style: str = "cityscapes",
    supersampling: int = 2,
) -> StreetImage:
    """Draw one scene.

    Args:
        seed: seed of the set, at least 0.
        index: number of the scene in the set, at least 0.
        size: (height, width) in pixels, at least 16 each.
        style: whose camera: a key of :data:`CAMERA_STYLES`.
        supersampling: samples per pixel along each axis, 1 to 4.

    Raises:
        ConfigError: an argument is out of range.
    """
    if style not in CAMERA_STYLES:
        raise ConfigError(f"style {style!r}: unknown, choose one of {', '.join(CAMERA_STYLES)}")
    if seed < 0 or index < 0:
        raise ConfigError(f"seed {seed}, scene {index}: both start at 0")
    if min(size) < 16 or not 1 <= supersampling <= 4:
        raise ConfigError(
            f"size {tuple(size)} with {supersampling} x {supersampling} samples: at least 16 "
            "pixels each way, and 1 to 4 samples"
        )
    return render(sample_street(seed, index, style), (int(size[0]), int(size[1])), supersampling)
