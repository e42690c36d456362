"""Random scenes with the distribution of CLEVR (Johnson et al., CVPR 2017, appendix A).

Only geometry and attributes are drawn here; nothing is shaded. The rules are those of the published
generator: rejected placements are tried again, a placement that runs out of tries empties the
scene, and so does an object that hides too much of another. The number of objects is drawn once,
before any rejection, or crowded scenes would be rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.camera import FRAME_SIZE, WINDOWS, Camera
from slotseg.data.synthetic.shapes import SHAPES, Solid
from slotseg.data.synthetic.visibility import object_ids

#: Linear albedo: the published 8-bit values, divided by 255 and used without a transfer curve.
COLORS: dict[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
MATERIALS = ("rubber", "metal")
SIZES: dict[str, float] = {"large": 0.7, "small": 0.35}

MIN_OBJECTS, MAX_OBJECTS = 3, 10
#: Objects' centres lie within this of the origin along x and along y.
EXTENT = 3.0
#: Smallest gap between two objects on the ground.
MIN_GAP = 0.25
#: Two objects that differ at all along left, right, front or behind differ by at least this.
DIRECTION_MARGIN = 0.4
#: Placements of one object before the scene is started again.
PLACEMENT_TRIES = 50
#: Every object shows at least this many pixels of the 240 x 320 frame.
MIN_VISIBLE_PIXELS = 200

CAMERA_POSITION = np.array([7.481132, -6.507640, 5.343665])
CAMERA_JITTER = 0.5
LIGHT_JITTER = 1.0
#: 35 mm lens on a 32 mm wide sensor, in pixels of the frame.
FOCAL = 35.0 / 32.0 * FRAME_SIZE[1]


@dataclass(frozen=True)
class SceneObject:
    """One object: its attributes, and its place in the world.

    ``position`` is the centre (world units), ``rotation`` the turn about the vertical in degrees.
    """

    shape: str
    size: str
    color: str
    material: str
    position: tuple[float, float, float]
    rotation: float

    @property
    def albedo(self) -> np.ndarray:
        return np.array(COLORS[self.color]) / 255.0

    @property
    def solid(self) -> Solid:
        # The height of the centre is the half extent: objects stand on the ground.
        return Solid(
            self.shape, np.array(self.position), self.position[2], math.radians(self.rotation)
        )


@dataclass(frozen=True)
class SceneDescription:
    """A sampled scene: what :mod:`~slotseg.data.synthetic.clevr` renders.

    Attributes:
        objects: in the order in which they were placed.
        camera: the jittered camera.
        light_offsets: float64 [3, 3], displacement of the key, fill and back light.
    """

    objects: tuple[SceneObject, ...]
    camera: Camera
    light_offsets: np.ndarray


def sample_scene(
    rng: np.random.Generator, min_objects: int = MIN_OBJECTS, max_objects: int = MAX_OBJECTS
) -> SceneDescription:
    """Draw one scene in which every object is well visible in the whole frame."""
    light_offsets = rng.uniform(-LIGHT_JITTER, LIGHT_JITTER, size=(3, 3))
    jitter = rng.uniform(-CAMERA_JITTER, CAMERA_JITTER, size=3)
    camera = Camera.look_at(CAMERA_POSITION + jitter, np.zeros(3), FOCAL)
    num_objects = int(rng.integers(min_objects, max_objects + 1))
    while True:
        objects = place_objects(rng, num_objects, camera)
        if objects is not None and _all_visible(objects, camera):
            return SceneDescription(tuple(objects), camera, light_offsets)


def ground_directions(camera: Camera) -> np.ndarray:
    """Right, left, behind and front as the camera sees them, unit vectors on the ground [4, 2]."""
    right, _, forward = camera.axes
    right, behind = right[:2], forward[:2] / np.linalg.norm(forward[:2])
    return np.stack([right, -right, behind, -behind])


def place_objects(
    rng: np.random.Generator, num_objects: int, camera: Camera
) -> list[SceneObject] | None:
    """Draw objects that keep their distance; None when one of them found no place."""
    directions = [(float(x), float(y)) for x, y in ground_directions(camera)]
    names = list(SIZES)
    colors = list(COLORS)
    objects: list[SceneObject] = []
    taken: list[tuple[float, float, float]] = []
    for _ in range(num_objects):
        size = names[int(rng.integers(len(names)))]
        # As published, a new object keeps its distance as if it were a sphere of its size ...
        radius = SIZES[size]
        for x, y in rng.uniform(-EXTENT, EXTENT, size=(PLACEMENT_TRIES, 2)).tolist():
            if _has_room(x, y, radius, taken, directions):
                break
        else:
            return None
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        # ... while a cube, once placed, is narrower: its diagonal is the sphere's diameter.
        half = radius / math.sqrt(2) if shape == "cube" else radius
        taken.append((x, y, half))
        objects.append(
            SceneObject(
                shape=shape,
                size=size,
                color=colors[int(rng.integers(len(colors)))],
                material=MATERIALS[int(rng.integers(len(MATERIALS)))],
                position=(x, y, half),
                rotation=float(rng.uniform(0.0, 360.0)),
            )
        )
    return objects


def _has_room(
    x: float,
    y: float,
    radius: float,
    taken: list[tuple[float, float, float]],
    directions: list[tuple[float, float]],
) -> bool:
    for other_x, other_y, other_radius in taken:
        dx, dy = x - other_x, y - other_y
        if math.hypot(dx, dy) - radius - other_radius < MIN_GAP:
            return False
        for along_x, along_y in directions:
            if 0 < dx * along_x + dy * along_y < DIRECTION_MARGIN:
                return False
    return True


def _all_visible(objects: list[SceneObject], camera: Camera) -> bool:
    ids, _ = object_ids([o.solid for o in objects], camera, WINDOWS["full"], FRAME_SIZE)
    pixels = np.bincount(ids.ravel(), minlength=len(objects) + 1)[1:]
    return bool((pixels >= MIN_VISIBLE_PIXELS).all())
