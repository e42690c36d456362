"""Pixels of a street scene: one raster of parts, from which picture and truth are both read."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from slotseg.data.synthetic.streets.camera import NEAR
from slotseg.data.synthetic.streets.labels import HAS_INSTANCES, ID
from slotseg.data.synthetic.streets.order import painting_order
from slotseg.data.synthetic.streets.scene import Item, StreetScene, Surface
from slotseg.data.synthetic.streets.shading import Parts, shade

#: Instances that show fewer pixels than this are marked as crowd: nobody could annotate them.
MIN_INSTANCE_PIXELS = 6

_SUBPIXEL_BITS = 4
_LIMIT = 60000.0


@dataclass(frozen=True)
class StreetImage:
    """A picture with its exact panoptic truth.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        label_ids: uint8 [H, W], Cityscapes label ids.
        instance_ids: int32 [H, W] as in Cityscapes' ``instanceIds``: label id * 1000 + number for
            an instance; the label id alone for stuff, void, and crowd of a class with instances.
        occluded: those of ``instance_ids`` that something nearer borders on.
    """

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    occluded: frozenset[int]


def render(scene: StreetScene, size: tuple[int, int], supersampling: int = 2) -> StreetImage:
    """Draw a scene.

    Args:
        scene: what to draw.
        size: (height, width) in pixels.
        supersampling: samples per pixel along each axis. The truth is one of the samples, the
            picture's flat colours are their mean.
    """
    fine = (size[0] * supersampling, size[1] * supersampling)
    parts = Parts()
    labels = [ID["sky"]]
    crowds = [True]
    raster = np.zeros(fine, np.int32)  # part 0 is the sky
    parts.add((0.0, 0.0, 0.0), Surface.SKY, 0, 0)
    ground = [item for item in scene.items if item.box is None]
    upright = [item for item in scene.items if item.box is not None]
    boxes = np.array([item.box for item in upright]).reshape(-1, 4)
    ordered = ground + [upright[i] for i in painting_order(boxes, scene.camera.lateral)]
    _paint_items(scene, ordered, raster, parts, labels, crowds)
    for region in scene.frame:
        labels.append(region.label)
        crowds.append(True)
        number = parts.add(region.color, Surface.UPRIGHT, 0, len(labels) - 1, depth=1.0)
        outline = region.outline * (fine[1], fine[0])
        cv2.fillPoly(raster, [_fixed(outline)], number, shift=_SUBPIXEL_BITS)
    # With an odd factor the middle sample lies in the centre of the pixel.
    first = supersampling // 2
    sample = np.ascontiguousarray(raster[first::supersampling, first::supersampling])
    items = parts.item_numbers()[sample]
    label_ids, instance_ids = _truth(items, labels, crowds)
    image = shade(scene, raster, sample, parts, _shadow_mask(scene, size))
    return StreetImage(image, label_ids, instance_ids, _occluded(items, instance_ids))


def _paint_items(
    scene: StreetScene,
    items: list[Item],
    raster: np.ndarray,
    parts: Parts,
    labels: list[int],
    crowds: list[bool],
) -> None:
    """Rasterise all faces; ``parts``, ``labels`` and ``crowds`` grow accordingly."""
    faces = [face for item in items for face in item.faces]
    if not faces:
        return
    size = raster.shape
    corners = np.concatenate([face.points.reshape(-1, 3) for face in faces])
    seen = scene.camera.to_camera(corners)
    depth = seen[:, 2]
    pixels = scene.camera.project(np.where(depth[:, None] > NEAR, seen, (0.0, 0.0, 1.0)), size)
    fixed = _fixed(pixels)
    counts = np.array([face.points.shape[0] * face.points.shape[1] for face in faces])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    nearest = np.minimum.reduceat(depth, starts)
    farthest = np.maximum.reduceat(depth, starts)
    low, high = (f.reduceat(pixels, starts, axis=0) for f in (np.minimum, np.maximum))
    whole = nearest > NEAR
    outside = whole & ((high < 0).any(axis=1) | (low[:, 0] > size[1]) | (low[:, 1] > size[0]))
    skipped = outside | (farthest <= NEAR)
    number_of_face = 0
    for item in items:
        labels.append(item.label)
        crowds.append(item.crowd)
        for face in item.faces:
            k = number_of_face
            number_of_face += 1
            if skipped[k]:
                continue
            start, shape = starts[k], face.points.shape[:2]
            stop = start + counts[k]
            if whole[k]:
                polygons = list(fixed[start:stop].reshape(*shape, 2))
                inverse = 1.0 / depth[start:stop]
                columns = pixels[start:stop, 0]
            else:
                clipped = [
                    c for c in map(_clip, seen[start:stop].reshape(*shape, 3)) if c is not None
                ]
                if not clipped:
                    continue
                projected = [scene.camera.project(c, size) for c in clipped]
                polygons = [_fixed(p) for p in projected]
                inverse = 1.0 / np.concatenate(clipped)[:, 2]
                columns = np.concatenate(projected)[:, 0]
            part = parts.add(
                face.color,
                face.surface,
                face.texture,
                len(labels) - 1,
                *_depth_plane(face.surface, inverse, columns / size[1]),
            )
            cv2.fillPoly(raster, polygons, part, shift=_SUBPIXEL_BITS)


def _fixed(pixels: np.ndarray) -> np.ndarray:
    """Pixel positions in OpenCV's fixed-point numbers; centres of pixels are at whole numbers."""
    return np.rint((np.clip(pixels, -_LIMIT, _LIMIT) - 0.5) * (1 << _SUBPIXEL_BITS)).astype(
        np.int32
    )


def _clip(polygon: np.ndarray) -> np.ndarray | None:
    """The part of a polygon [n, 3] in camera coordinates beyond the near plane, or None."""
    kept = []
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside = a[2] > NEAR
        if inside:
            kept.append(a)
        if inside != (b[2] > NEAR):
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]) + (0, 0, 1e-9))
    return np.array(kept) if len(kept) > 2 else None


def _depth_plane(surface: Surface, inverse: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Inverse depth as ``constant + slope * column``, columns as shares of the width."""
    if surface == Surface.FACADE:
        left, right = int(columns.argmin()), int(columns.argmax())
        span = float(columns[right] - columns[left])
        if span > 1e-4:
            slope = float(inverse[right] - inverse[left]) / span
            return float(inverse[left] - slope * columns[left]), slope
    return float(inverse.sum()) / len(inverse), 0.0


def _shadow_mask(scene: StreetScene, size: tuple[int, int]) -> np.ndarray:
    """float32 [H, W]: how much of the ground is in shadow, with soft edges."""
    mask = np.zeros(size, np.uint8)
    for points in scene.shadows:
        for polygon in scene.camera.to_camera(points):
            clipped = _clip(polygon)
            if clipped is not None:
                outline = _fixed(scene.camera.project(clipped, size))
                cv2.fillPoly(mask, [outline], 255, shift=_SUBPIXEL_BITS)
    width = max(size[1] // 200, 1)
    return cv2.blur(mask, (2 * width + 1, width | 1)).astype(np.float32) / 255


def _occluded(items: np.ndarray, instance_ids: np.ndarray) -> frozenset[int]:
    """Instances beside whose pixels something shows that was painted later."""
    later = np.zeros(items.shape, bool)
    later[:, :-1] |= items[:, 1:] > items[:, :-1]
    later[:, 1:] |= items[:, :-1] > items[:, 1:]
    later[:-1] |= items[1:] > items[:-1]
    later[1:] |= items[:-1] > items[1:]
    return frozenset(np.unique(instance_ids[later]).tolist())


def _truth(
    items: np.ndarray, labels: list[int], crowds: list[bool]
) -> tuple[np.ndarray, np.ndarray]:
    label_of_item = np.array(labels, np.int32)
    visible = np.bincount(items.ravel(), minlength=len(labels))
    instance_of_item = label_of_item.copy()
    numbered = HAS_INSTANCES[label_of_item] & ~np.array(crowds)
    counters: dict[int, int] = {}
    for item in np.flatnonzero(numbered & (visible >= MIN_INSTANCE_PIXELS)):
        label = int(label_of_item[item])
        number = counters.get(label, 0)
        if number < 1000:
            counters[label] = number + 1
            instance_of_item[item] = label * 1000 + number
    return label_of_item[items].astype(np.uint8), instance_of_item[items]
