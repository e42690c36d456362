"""A street that is being laid out: what every part of the layout draws with and adds to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.layout.districts import District
from slotseg.data.synthetic.streets.layout.plan import StreetPlan
from slotseg.data.synthetic.streets.scene import Face, Light, StreetScene


@dataclass(frozen=True)
class Site:
    """One street under construction.

    Attributes:
        rng: source of every draw. All parts share it, so the order in which they draw is part of
            what a seed means.
        district: habits of this part of town.
        plan: where the street's parts are.
        scene: everything that stands there so far.
    """

    rng: np.random.Generator
    district: District
    plan: StreetPlan
    scene: StreetScene

    @property
    def light(self) -> Light:
        """Sun and sky."""
        return self.scene.light

    @property
    def camera_t(self) -> float:
        """Lateral position of the camera, metres."""
        return self.scene.camera.lateral

    def add(self, name: str, faces: list[Face], t: float, z: float, half: float = 0.25) -> None:
        """Add a small upright thing of a class at a place; ``half`` is half its width, metres."""
        self.scene.add(ID[name], faces, (t - half, t + half, z - half, z + half))
