"""House fronts, walls and fences along the street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets.outlines import rectangle, scaled, upright
from slotseg.data.synthetic.streets.palette import (
    GLASS,
    MASONRY,
    METALS,
    PAINTS,
    PLANTS,
    paint,
    pick,
)
from slotseg.data.synthetic.streets.scene import Color, Face, Light, Surface, Texture


@dataclass(frozen=True)
class Style:
    """Look of one building, the same on all of its sides.

    Lengths in metres; ``shop`` tells whether the ground floor has shop windows.
    """

    wall: Color
    trim: Color
    glass: Color
    frame: Color
    roof: Color
    texture: Texture
    storey: float
    bay: float
    window: tuple[float, float]
    storeys: int
    shop: bool
    shop_color: Color
    cornices: bool
    balconies: bool
    curtain_wall: bool
    pitched: bool

    @property
    def height(self) -> float:
        return self.storey * self.storeys + (0.6 if self.shop else 0.3)


def sample_style(rng: np.random.Generator, storeys: int, house: bool) -> Style:
    """Draw a style; a ``house`` has a pitched roof and no shop."""
    storey = float(rng.uniform(2.7, 3.6))
    bay = float(rng.uniform(2.0, 3.8))
    return Style(
        wall=paint(rng, PAINTS) if rng.random() < 0.15 else paint(rng, MASONRY),
        trim=paint(rng, MASONRY),
        glass=paint(rng, GLASS),
        frame=paint(rng, MASONRY[-5:] if rng.random() < 0.5 else PAINTS),
        roof=paint(rng, MASONRY[4:8] + METALS),
        texture=pick(rng, (Texture.PLASTER, Texture.PLASTER, Texture.BRICK)),
        storey=storey,
        bay=bay,
        window=(bay * float(rng.uniform(0.35, 0.6)), storey * float(rng.uniform(0.42, 0.6))),
        storeys=storeys,
        shop=not house and rng.random() < 0.55,
        shop_color=paint(rng, PAINTS),
        cornices=rng.random() < 0.5,
        balconies=rng.random() < 0.2,
        curtain_wall=not house and rng.random() < 0.12,
        pitched=house or rng.random() < 0.4,
    )


def _grid(columns: np.ndarray, rows: np.ndarray, width: float, height: float) -> np.ndarray:
    """Rectangles [K, 4, 2] with their lower left corners on a grid."""
    corners = np.empty((len(rows), len(columns), 4, 2))
    corners[..., 0] = columns[None, :, None] + np.array([0.0, width, width, 0.0])
    corners[..., 1] = rows[:, None, None] + np.array([0.0, 0.0, height, height])
    return corners.reshape(-1, 4, 2)


def front(
    rng: np.random.Generator,
    style: Style,
    origin: tuple[float, float],
    direction: tuple[float, float],
    length: float,
    brightness: float,
    detailed: bool,
) -> list[Face]:
    """One side of a building: ``length`` metres from ``origin`` (t, z) along ``direction``."""
    faces: list[Face] = []

    def add(outlines: np.ndarray, color: Color, texture: Texture = Texture.NONE) -> None:
        if len(outlines):
            faces.append(
                upright(
                    outlines, scaled(color, brightness), origin, direction, texture, Surface.FACADE
                )
            )

    height = style.height
    add(rectangle(0, length, 0, height)[None], style.wall, style.texture)
    ground_floor = style.storey + 0.4 if style.shop else style.storey
    if detailed and not style.shop:
        add(rectangle(0, length, 0, 0.7)[None], scaled(style.wall, 0.72), style.texture)
    width, tall = style.window
    bays = max(int(length / style.bay), 1)
    margin = (length - (bays - 1) * style.bay - width) / 2
    columns = margin + np.arange(bays) * style.bay
    first = 1 if style.shop else 0
    sill = (style.storey - tall) * 0.55
    rows = (ground_floor if style.shop else 0.3) + np.arange(style.storeys - first) * style.storey
    if style.curtain_wall:
        bands = _grid(np.array([0.0]), rows + sill * 0.6, length, style.storey * 0.75)
        add(bands, style.glass, Texture.PLASTER)
        posts = _grid(columns, np.array([0.0]), 0.12, height)
        add(posts, style.frame)
    elif bays and len(rows):
        windows = _grid(columns, rows + sill, width, tall)
        if detailed:
            grown = _grid(columns - 0.12, rows + sill - 0.12, width + 0.24, tall + 0.24)
            add(grown, style.trim)
        lit = rng.random(len(windows))
        add(windows[lit < 0.7], style.glass)
        add(windows[(lit >= 0.7) & (lit < 0.88)], scaled(style.glass, 1.7))
        add(windows[lit >= 0.88], (0.62, 0.60, 0.55))
        if detailed:
            cross = _grid(columns + width / 2 - 0.04, rows + sill, 0.08, tall)
            add(cross, style.frame)
            if style.balconies and len(rows) > 1:
                balcony = _grid(columns[::2] - 0.3, rows[1:], width + 0.6, 0.95)
                add(balcony, style.frame, Texture.BARS)
    if style.cornices:
        add(_grid(np.array([0.0]), rows - 0.1, length, 0.2), scaled(style.trim, 0.9))
    if style.shop:
        add(rectangle(0.2, length - 0.2, 0.35, 2.9)[None], scaled(style.glass, 0.9))
        if detailed:
            posts = _grid(np.arange(0.2, length - 0.2, 2.2), np.array([0.35]), 0.15, 2.55)
            add(posts, style.frame)
        add(rectangle(0.2, length - 0.2, 2.9, 3.5)[None], style.shop_color)
        if detailed:
            letters = np.arange(length * 0.3, length * 0.7, 0.42)
            add(_grid(letters, np.array([3.05]), 0.28, 0.3), scaled(style.trim, 1.2))
        if rng.random() < 0.35:
            add(rectangle(0.2, length - 0.2, 2.35, 2.95)[None], paint(rng, PAINTS), Texture.BARS)
    elif bays > 1:
        door = columns[int(rng.random() * bays)]
        add(rectangle(door, door + 1.1, 0, 2.2)[None], paint(rng, PAINTS))
    return faces


def building(
    rng: np.random.Generator,
    side: int,
    t: float,
    z: tuple[float, float],
    depth: float,
    style: Style,
    light: Light,
    camera_t: float,
) -> list[Face]:
    """A building beside the street: its long front at ``t`` on ``side``, and its nearer end.

    ``depth`` is its extent away from the street.
    """
    detailed = z[0] < 70
    along = light.shade((-side, 0, 0))
    across = light.shade((0, 0, -1))
    faces: list[Face] = []
    roof_height = min(depth * 0.4, 3.5)
    if style.pitched and z[0] > 4:
        faces += _roof(side, t, z, depth, style, light, roof_height)
    if z[0] > 1.0:
        end_origin = (t, z[0])
        faces += front(rng, style, end_origin, (side, 0.0), depth, across, detailed)
        if style.pitched:
            gable = np.array(
                [
                    [
                        (0, style.height),
                        (depth, style.height),
                        (depth / 2, style.height + roof_height),
                    ]
                ]
            )
            faces.append(
                upright(gable, scaled(style.wall, across), end_origin, (side, 0.0), style.texture)
            )
    if (camera_t - t) * side < 0:
        faces += front(rng, style, (t, z[0]), (0.0, 1.0), z[1] - z[0], along, detailed)
    return faces


def _roof(
    side: int,
    t: float,
    z: tuple[float, float],
    depth: float,
    style: Style,
    light: Light,
    height: float,
) -> list[Face]:
    eave, ridge = style.height, style.height + height
    middle = t + side * depth / 2
    corners = np.array(
        [[t, eave, z[0]], [t, eave, z[1]], [middle, ridge, z[1]], [middle, ridge, z[0]]]
    )
    shade = light.shade((-side * 0.6, 0.8, 0))
    faces = [Face(corners[None], scaled(style.roof, shade), Texture.BRICK, Surface.FACADE)]
    chimney = upright(
        rectangle(-0.4, 0.4, ridge - 1.0, ridge + 0.9)[None],
        scaled(style.wall, 0.7),
        (middle, (z[0] + z[1]) / 2),
    )
    return [chimney, *faces]


def wall(
    rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float], shade: float
) -> list[Face]:
    """A free-standing wall of masonry or concrete between two points (t, z)."""
    direction, length = _course(start, end)
    height = float(rng.uniform(1.1, 3.0))
    color = scaled(paint(rng, MASONRY), shade)
    texture = pick(rng, (Texture.PLASTER, Texture.BRICK))
    cap = scaled(color, 1.15)
    faces = []
    for begin in np.arange(0.0, length, 6.0):
        stop = min(begin + 6.0, length)
        faces.append(
            upright(
                rectangle(begin, stop, 0, height)[None],
                color,
                start,
                direction,
                texture,
                Surface.FACADE,
            )
        )
        faces.append(
            upright(rectangle(begin, stop, height - 0.12, height)[None], cap, start, direction)
        )
    if rng.random() < 0.35:  # graffiti
        for _ in range(4):
            at = float(rng.uniform(0, max(length - 2.0, 0.1)))
            patch = rectangle(at, at + float(rng.uniform(0.6, 2)), 0.3, height * 0.7)
            faces.append(upright(patch[None], paint(rng, PAINTS), start, direction, Texture.LEAVES))
    return faces


def fence(
    rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float], shade: float
) -> list[Face]:
    """A fence of planks or bars on posts between two points (t, z).

    What shows through between the bars belongs to the fence, as annotators draw it.
    """
    direction, length = _course(start, end)
    height = float(rng.uniform(0.9, 2.0))
    planks = rng.random() < 0.5
    color = scaled(paint(rng, MASONRY if planks else METALS), shade)
    if planks:
        panel, texture = color, Texture.PLANKS
    else:
        panel, texture = scaled(paint(rng, PLANTS + MASONRY[2:5]), shade), Texture.BARS
    faces = []
    for begin in np.arange(0.0, length, 5.0):
        stop = min(begin + 5.0, length)
        add = upright(
            rectangle(begin, stop, 0.05, height)[None],
            panel,
            start,
            direction,
            texture,
            Surface.FACADE,
        )
        faces.append(add)
        rails = np.stack([rectangle(begin, stop, y, y + 0.07) for y in (0.2, height - 0.12)])
        faces.append(upright(rails, scaled(color, 0.85), start, direction))
    posts = np.arange(0.0, length, 2.4)[:24]
    bars = np.stack([rectangle(a - 0.05, a + 0.05, 0, height + 0.08) for a in posts])
    faces.append(upright(bars, scaled(color, 0.75), start, direction))
    return faces


def guard_rail(start: tuple[float, float], end: tuple[float, float], shade: float) -> list[Face]:
    """A steel barrier beside the road between two points (t, z)."""
    direction, length = _course(start, end)
    color = scaled(METALS[3], shade)
    posts = np.stack([rectangle(a - 0.06, a + 0.06, 0, 0.7) for a in np.arange(0.0, length, 3.0)])
    faces = [upright(posts, scaled(color, 0.7), start, direction)]
    for begin in np.arange(0.0, length, 6.0):
        bands = np.stack(
            [rectangle(begin, min(begin + 6.0, length), y, y + 0.13) for y in (0.45, 0.62)]
        )
        faces.append(upright(bands, color, start, direction))
    return faces


def _course(
    start: tuple[float, float], end: tuple[float, float]
) -> tuple[tuple[float, float], float]:
    dt, dz = end[0] - start[0], end[1] - start[1]
    length = float(np.hypot(dt, dz))
    return (dt / length, dz / length), length
