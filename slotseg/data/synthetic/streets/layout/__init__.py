"""Draws whole street scenes: which things stand where.

The street runs along z. From its middle outwards there are lanes, perhaps a parking lane, the
pavement with its furniture, perhaps a verge, and the line of buildings, walls, fences and trees.
Side streets interrupt all of that.

One module lays out one part of the street; this one calls them in turn.
"""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic.streets.climate import (
    CAMERA_STYLES,
    sample_camera,
    sample_climate,
    sample_frame,
)
from slotseg.data.synthetic.streets.layout.districts import sample_district
from slotseg.data.synthetic.streets.layout.frontage import (
    cast_building_shadows,
    close_view,
    line_street,
)
from slotseg.data.synthetic.streets.layout.pavement import furnish
from slotseg.data.synthetic.streets.layout.plan import sample_plan
from slotseg.data.synthetic.streets.layout.road import lay_ground
from slotseg.data.synthetic.streets.layout.site import Site
from slotseg.data.synthetic.streets.layout.traffic import drive, park
from slotseg.data.synthetic.streets.layout.walkers_and_riders import ride, walk
from slotseg.data.synthetic.streets.scene import StreetScene

__all__ = ["sample_street"]


def sample_street(seed: int, index: int, style: str = "cityscapes") -> StreetScene:
    """Draw scene ``index`` of a seed, as seen by the cars of a data set's ``style``."""
    rng = np.random.default_rng([seed, index])
    camera_style = CAMERA_STYLES[style]
    camera = sample_camera(rng, camera_style)
    light, weather = sample_climate(rng, camera_style)
    scene = StreetScene(camera, light, weather, texture_seed=int(rng.integers(1 << 20)))
    scene.frame.extend(sample_frame(rng, camera_style))
    district = sample_district(rng)
    site = Site(rng, district, sample_plan(rng, district), scene)

    # Every part draws from the same generator: another order gives other scenes for a seed.
    tracks = lay_ground(site)
    cast_building_shadows(site)
    close_view(site)
    for side in site.plan.sides:
        line_street(site, side)
        furnish(site, side)
    park(site)
    drive(site, tracks)
    walk(site)
    ride(site)
    return scene
