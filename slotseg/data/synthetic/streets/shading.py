"""Colours of the raster of parts: texture, shadow, fog, sky and the camera's own faults."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from slotseg.data.synthetic.streets.scene import Color, StreetScene, Surface, Texture

_TILE = 256
#: Per texture: texels per metre and contrast.
_SCALES: dict[Texture, tuple[float, float]] = {
    Texture.NONE: (8.0, 0.0),
    Texture.ASPHALT: (24.0, 0.16),
    Texture.PLASTER: (12.0, 0.14),
    Texture.BRICK: (32.0, 0.22),
    Texture.PLANKS: (24.0, 0.30),
    Texture.PAVING: (32.0, 0.20),
    Texture.LEAVES: (24.0, 0.55),
    Texture.GRASS: (40.0, 0.35),
    Texture.CLOTH: (60.0, 0.14),
    Texture.CLOUDS: (1.0, 1.0),
    Texture.BARS: (24.0, 0.55),
    Texture.PAINT: (10.0, 0.07),
}


class Parts:
    """Table of parts: what all pixels of a face have in common."""

    def __init__(self) -> None:
        self._colors: list[Color] = []
        self._numbers: list[tuple[int, int, int]] = []
        self._planes: list[tuple[float, float]] = []

    def add(
        self,
        color: Color,
        surface: int,
        texture: int,
        item: int,
        depth: float = 0.0,
        slope: float = 0.0,
    ) -> int:
        """Append a part: inverse depth is ``depth + slope * column``. Returns its number."""
        self._colors.append(color)
        self._numbers.append((int(surface), int(texture), item))
        self._planes.append((depth, slope))
        return len(self._colors) - 1

    def colors(self) -> np.ndarray:
        """uint8 [P, 4], RGB and 255; part 0, the sky, is 0."""
        colors = np.full((len(self._colors), 4), 255, np.uint8)
        colors[:, :3] = np.clip(np.array(self._colors), 0, 1) * 255 + 0.5
        colors[0] = 0
        return colors

    def surfaces(self) -> np.ndarray:
        """int [P]."""
        return np.array(self._numbers)[:, 0]

    def textures(self) -> np.ndarray:
        """int [P]."""
        return np.array(self._numbers)[:, 1]

    def item_numbers(self) -> np.ndarray:
        """int [P], the item that each part belongs to."""
        return np.array(self._numbers)[:, 2]

    def planes(self) -> np.ndarray:
        """float32 [2, P], constant and slope of the inverse depth."""
        return np.ascontiguousarray(np.array(self._planes, np.float32).T)


@functools.cache
def texture_tiles() -> np.ndarray:
    """float32 [textures, 256 * 256], repeating patterns with mean 0 and values about -1..1."""
    rng = np.random.default_rng(20160516)

    def noise(cell: int) -> np.ndarray:
        small = rng.standard_normal((_TILE // cell, _TILE // cell)).astype(np.float32)
        padded = np.pad(small, 2, mode="wrap")
        big = cv2.resize(padded, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        return big[2 * cell : 2 * cell + _TILE, 2 * cell : 2 * cell + _TILE]

    rows, columns = np.mgrid[:_TILE, :_TILE]
    fine, grain, medium, coarse = noise(1), noise(2), noise(8), noise(64)
    brick_row = rows // 8
    joints = (rows % 8 == 0) | ((columns + 8 * (brick_row % 2)) % 16 == 0)
    per_brick = rng.standard_normal((32, 17)).astype(np.float32)[
        brick_row, (columns + 8 * (brick_row % 2)) // 16
    ]
    slabs = (rows % 16 == 0) | (columns % 16 == 0)
    per_slab = rng.standard_normal((16, 16)).astype(np.float32)[rows // 16, columns // 16]
    plank = rng.standard_normal(32).astype(np.float32)[columns // 8]
    tiles = {
        Texture.NONE: np.zeros_like(fine),
        Texture.ASPHALT: 0.35 * fine + 0.3 * medium + 0.45 * coarse,
        Texture.PLASTER: 0.2 * grain + 0.35 * medium + 0.5 * coarse,
        Texture.BRICK: 0.5 * per_brick - 1.0 * joints + 0.3 * coarse + 0.12,
        Texture.PLANKS: 0.4 * plank - 0.9 * (columns % 8 == 0) + 0.3 * grain,
        Texture.PAVING: 0.4 * per_slab - 0.9 * slabs + 0.25 * grain + 0.3 * coarse,
        Texture.LEAVES: 0.35 * grain + 0.55 * medium + 0.35 * noise(16),
        Texture.GRASS: 0.5 * fine + 0.4 * medium + 0.4 * coarse,
        Texture.CLOTH: 0.3 * grain + 0.6 * noise(16),
        Texture.CLOUDS: np.clip(0.6 * coarse + 0.35 * noise(32) + 0.2 * noise(16), -1, 1),
        Texture.BARS: np.where(columns % 8 < 3, -1.0, 0.4),
        Texture.PAINT: 0.6 * coarse + 0.4 * noise(32),
    }
    return np.stack([tiles[texture].ravel() for texture in Texture]).astype(np.float32)


def shade(
    scene: StreetScene,
    raster: np.ndarray,
    sample: np.ndarray,
    parts: Parts,
    shadows: np.ndarray,
) -> np.ndarray:
    """Picture uint8 [H, W, 3], RGB.

    Args:
        scene: for its weather and camera.
        raster: int32 [H * s, W * s], part numbers at all samples.
        sample: int32 [H, W], part numbers at the truth's samples.
        parts: table of parts.
        shadows: float32 [H, W], share of shadow on the ground.
    """
    height, width = sample.shape
    weather, camera = scene.weather, scene.camera
    # Four bytes a part are looked up at once.
    samples = parts.colors().view(np.uint32).ravel()[raster].view(np.uint8)
    samples = samples.reshape(*raster.shape, 4)
    flat = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
    # The sky's part is transparent black: the others' mean is what is left.
    solid = flat[..., 3] * np.float32(1 / 255)
    image = flat[..., :3] * (np.float32(1 / 255) / np.maximum(solid, np.float32(0.05)))[..., None]

    surface = parts.surfaces()[sample]
    ground = surface == Surface.GROUND
    column = (np.arange(width, dtype=np.float32) + 0.5) / width
    # Height above the horizon as a share of the width.
    row = ((camera.horizon * height) - (np.arange(height, dtype=np.float32) + 0.5)) / width
    below = np.maximum(-row, 1e-3)[:, None]
    constant, slope = (plane[sample] for plane in parts.planes())
    inverse = constant + slope * column
    inverse = np.where(ground, below / np.float32(camera.focal * camera.height), inverse)
    depth = 1.0 / np.maximum(inverse, np.float32(1e-3))

    texture = parts.textures()[sample]
    image *= (1 + _pattern(scene, texture, ground, depth, column, row))[..., None]
    image[ground] *= (1 - (1 - weather.shadow) * shadows[ground])[:, None]

    backdrop = _sky(scene, column, row)
    haze = np.array(weather.sky_low, np.float32)
    clear = np.exp(depth * np.float32(-weather.fog))[..., None]
    image = image * clear + haze * (1 - clear)
    image = backdrop + (image - backdrop) * solid[..., None]
    return _expose(scene, image)


def _pattern(
    scene: StreetScene,
    texture: np.ndarray,
    ground: np.ndarray,
    depth: np.ndarray,
    column: np.ndarray,
    row: np.ndarray,
) -> np.ndarray:
    """Relative change of brightness, float32 [H, W]."""
    scales = np.array([_SCALES[t] for t in Texture], np.float32)[texture]
    focal = np.float32(scene.camera.focal)
    across = (column - 0.5) * depth / focal
    # Upright: metres along the surface and up. Ground: metres to the right and ahead.
    u = np.where(ground, across, across + depth) * scales[..., 0]
    v = np.where(ground, depth, row[:, None] * depth / focal) * scales[..., 0]
    shift = scene.texture_seed % 251
    cell = ((v.astype(np.int32) + shift) & (_TILE - 1)) * _TILE
    cell += (u.astype(np.int32) + 3 * shift) & (_TILE - 1)
    values = texture_tiles().ravel()[cell + texture * (_TILE * _TILE)]
    # A pixel that covers many texels shows their mean.
    texels = depth * scales[..., 0] / (focal * len(column))
    return values * scales[..., 1] / np.maximum(1.0, 0.35 * texels) ** np.float32(0.7)


def _sky(scene: StreetScene, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Colours of the sky, float32 [H, W, 3]."""
    weather = scene.weather
    share = np.clip(row / 0.28, 0, 1)[:, None, None]
    low, top = np.array(weather.sky_low, np.float32), np.array(weather.sky_top, np.float32)
    sky = low + (top - low) * share
    # Clouds on a flat layer overhead.
    height = np.maximum(row, 0.02)[:, None]
    u = ((column[None] - 0.5) / height * 22 + 4000).astype(np.int32) + scene.texture_seed
    v = np.broadcast_to((9 / height).astype(np.int32) + scene.texture_seed // 256, u.shape)
    tile = texture_tiles()[Texture.CLOUDS].reshape(_TILE, _TILE)
    clouds = np.clip(tile[v % _TILE, u % _TILE] + 0.2, 0, 1)
    clouds = cv2.blur(clouds, (max(len(column) // 80, 1),) * 2)
    mix = (weather.clouds * clouds)[..., None]
    return sky * (1 - mix) + np.float32(sum(weather.sky_low) / 3 * 1.05) * mix


def _expose(scene: StreetScene, image: np.ndarray) -> np.ndarray:
    """What the camera makes of the light: uint8 [H, W, 3]."""
    weather = scene.weather
    height, width = image.shape[:2]
    sigma = weather.blur * width
    if sigma > 0.15:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image *= np.array(weather.tint, np.float32) * np.float32(weather.exposure)
    if weather.saturation != 1.0:
        grey = image.mean(axis=2, keepdims=True)
        image = grey + (image - grey) * np.float32(weather.saturation)
    if weather.vignette > 0:
        x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
        y = np.linspace(-1, 1, height, dtype=np.float32) ** 2
        image *= (1 - np.float32(weather.vignette / 2) * (x[None] + y[:, None]))[..., None]
    rng = np.random.default_rng(scene.texture_seed)
    # The tone curve as a table; the noise is added in steps of 1/1023 before it.
    index = cv2.addWeighted(image, 1023.0, _noise(rng, image.shape), weather.noise * 1023.0, 0.5)
    curve = (np.linspace(0, 1, 1024) ** weather.gamma * 255 + 0.5).astype(np.uint8)
    return curve[np.clip(index, 0, 1023).astype(np.int16)]


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Roughly normal noise, float32, mean 0 and standard deviation 1."""
    # The sum of the bytes of a random word: ten times as fast as normal variates.
    words = rng.integers(0, 2**32, size=shape, dtype=np.uint32).view(np.uint8)
    total = words.reshape(-1, 4).sum(axis=1, dtype=np.int16)
    return ((total.astype(np.float32) - 510.0) * np.float32(1 / 147.8)).reshape(shape)
