"""CLEVR-like scenes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.camera import WINDOWS
from slotseg.data.synthetic.clevr_scene import SceneDescription, sample_scene
from slotseg.data.synthetic.renderer import Renderer


@dataclass(frozen=True)
class Scene:
    image: np.ndarray
    mask: np.ndarray
    objects: list[dict]


def render_scene(description, rng, image_size=(128, 128), window="clevr", supersampling=2) -> Scene:
    linear, mask = Renderer(description, rng).render(WINDOWS[window], image_size, supersampling)
    return Scene(encode_srgb(linear), mask, [])


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear,1e-9) ** (1 / 2.4) - 0.055)
    return (curve * 255 + 0.5).astype(np.uint8)


def generate_scene(seed, index, image_size=(128, 128), window="clevr", supersampling=2) -> Scene:
    rng = np.random.default_rng([seed, index])
    description = sample_scene(rng)
    return render_scene(description, rng, image_size, window, supersampling)
