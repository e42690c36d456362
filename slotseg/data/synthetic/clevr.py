"""CLEVR-like scenes with exact instance masks, rendered in NumPy.

Scene number ``index`` of seed ``seed`` is always the same, whatever was generated before it and in
whichever process. The same objects, camera and lamps belong to it at every image size and window.
"""

from __future__ import annotations

import functools
import os
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from slotseg.data.scene_folder import SceneWriter, is_complete, load_scenes
from slotseg.data.synthetic.camera import WINDOWS
from slotseg.data.synthetic.clevr_scene import (
    MAX_OBJECTS,
    MIN_OBJECTS,
    SceneDescription,
    sample_scene,
)
from slotseg.data.synthetic.processes import write_in_processes
from slotseg.data.synthetic.renderer import Renderer
from slotseg.errors import ConfigError

#: Raised whenever a change gives other pictures for the same seed: unfinished and finished splits
#: of an older version are then made again instead of being mixed with new scenes.
GENERATOR_VERSION = 1


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        mask: uint8 [H, W], 0 for the background and i for ``objects[i - 1]``: what the ray through
            the centre of the pixel meets.
        objects: one dictionary per object of the *scene*: ``shape``, ``size``, ``color``,
            ``material`` (str), ``position`` [x, y, z] of the centre in world units, ``rotation``
            about the vertical in degrees, ``pixel_coords`` [x, y, depth] of the centre in pixels
            of this image and world units, ``visible_pixels`` (pixels of ``mask`` that hold it).
            As in CLEVR with masks after the usual crop, an object that lies outside of the window
            stays in the list, with no visible pixels.
    """

    image: np.ndarray
    mask: np.ndarray
    objects: list[dict[str, Any]]


def generate_scene(
    seed: int,
    index: int,
    image_size: tuple[int, int] = (128, 128),
    window: str = "clevr",
    supersampling: int = 2,
    min_objects: int = MIN_OBJECTS,
    max_objects: int = MAX_OBJECTS,
) -> Scene:
    """Draw and render one scene.

    Args:
        seed: seed of the set, at least 0.
        index: number of the scene in the set, at least 0.
        image_size: (height, width) in pixels; the window is stretched to it.
        window: "clevr", the square that the usual protocol crops, or "full", the whole 4:3 frame.
        supersampling: rays per pixel along each axis, 1 to 4.
        min_objects: fewest objects of a scene.
        max_objects: most objects of a scene, at most 10, as many as the rules leave room for.

    Raises:
        ConfigError: an argument is out of range.
    """
    _check(seed, index, image_size, window, supersampling, min_objects, max_objects)
    rng = np.random.default_rng([seed, index])
    description = sample_scene(rng, min_objects, max_objects)
    return render_scene(description, rng, image_size, window, supersampling)


def render_scene(
    description: SceneDescription,
    rng: np.random.Generator,
    image_size: tuple[int, int] = (128, 128),
    window: str = "clevr",
    supersampling: int = 2,
) -> Scene:
    """Render a given scene; the arguments are those of :func:`generate_scene`.

    ``rng`` only places light samples.
    """
    left, top, width, height = WINDOWS[window]
    radiance, mask = Renderer(description, rng).render(WINDOWS[window], image_size, supersampling)
    pixels = np.bincount(mask.ravel(), minlength=len(description.objects) + 1)
    objects = []
    for number, entry in enumerate(description.objects, start=1):
        x, y, depth = description.camera.project(np.array(entry.position))
        objects.append(
            {
                "shape": entry.shape,
                "size": entry.size,
                "color": entry.color,
                "material": entry.material,
                "position": [float(c) for c in entry.position],
                "rotation": float(entry.rotation),
                "pixel_coords": [
                    float((x - left) * image_size[1] / width),
                    float((y - top) * image_size[0] / height),
                    float(depth),
                ],
                "visible_pixels": int(pixels[number]),
            }
        )
    return Scene(encode_srgb(radiance), mask, objects)


def encode_srgb(radiance: np.ndarray) -> np.ndarray:
    """Display values, uint8, of linear radiance: clipped at 1 and put through the sRGB curve."""
    linear = np.clip(radiance, 0, 1)
    curve = 1.055 * np.maximum(linear, 0.0031308) ** np.float32(1 / 2.4) - 0.055
    return (np.where(linear <= 0.0031308, 12.92 * linear, curve) * 255 + 0.5).astype(np.uint8)


def generate_split(
    folder: str,
    seed: int,
    num_scenes: int,
    image_size: tuple[int, int] = (128, 128),
    window: str = "clevr",
    supersampling: int = 2,
    min_objects: int = MIN_OBJECTS,
    max_objects: int = MAX_OBJECTS,
    workers: int | None = None,
    progress: bool = True,
) -> bool:
    """Write scenes 0 .. ``num_scenes - 1`` of a seed into a scene folder.

    A finished folder of the same scenes is left alone, an unfinished one is completed. The result
    does not depend on the number of workers.

    Args:
        folder: the split's folder, for instance ``datasets/clevr_generated/train``.
        num_scenes: how many.
        workers: processes; None for as many as this process may use processors.
        progress: show a progress bar with the time left.

    The other arguments are those of :func:`generate_scene`.

    Returns:
        Whether anything had to be done.

    Raises:
        ConfigError: an argument is out of range.
        DatasetError: the folder cannot be written, or a worker process died. Scenes that are
            finished stay on disk, and the same call goes on from there.
    """
    options = {
        "image_size": (int(image_size[0]), int(image_size[1])),
        "window": window,
        "supersampling": int(supersampling),
        "min_objects": int(min_objects),
        "max_objects": int(max_objects),
    }
    _check(seed, 0, **options)
    workers = _usable_processors() if workers is None else workers
    if num_scenes < 1 or workers < 1:
        raise ConfigError(
            f"{folder}: {num_scenes} scenes with {workers} workers; both must be at least 1"
        )
    source = {"generator": "clevr", "version": GENERATOR_VERSION, "seed": int(seed), **options}
    del source["image_size"]  # the folder keeps it beside the source
    if _is_done(folder, source, num_scenes, options["image_size"]):
        return False
    writer = SceneWriter(folder, options["image_size"], source)
    missing = sorted(set(range(num_scenes)) - writer.done())
    with tqdm(
        total=num_scenes,
        initial=num_scenes - len(missing),
        desc=os.path.basename(folder.rstrip("/")),
        unit="scene",
        disable=None if progress else True,
    ) as bar:
        if workers == 1:
            for index in missing:
                _write_scenes(writer, seed, [index], options)
                bar.update()
        else:
            write_in_processes(
                functools.partial(_write_scenes, writer, seed, options=options),
                missing,
                workers,
                bar,
                folder=writer.folder,
                initializer=_ignore_interrupts,
            )
    writer.finish(num_scenes)
    return True


def _write_scenes(
    writer: SceneWriter, seed: int, indices: list[int], options: dict[str, Any]
) -> int:
    for index in indices:
        scene = generate_scene(seed, index, **options)
        writer.write(index, scene.image, scene.mask, scene.objects)
    return len(indices)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which the terminal sends to all processes, to the one that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_done(
    folder: str, source: dict[str, Any], num_scenes: int, image_size: tuple[int, int]
) -> bool:
    if not is_complete(folder, source, num_scenes):
        return False
    return tuple(load_scenes(folder)["image_size"]) == image_size


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check(
    seed: int,
    index: int,
    image_size: tuple[int, int],
    window: str,
    supersampling: int,
    min_objects: int,
    max_objects: int,
) -> None:
    if seed < 0 or index < 0:
        raise ConfigError(f"seed {seed}, scene {index}: both must be at least 0")
    if len(image_size) != 2 or not all(8 <= n <= 4096 for n in image_size):
        raise ConfigError(f"image size {list(image_size)}: give height and width, 8 to 4096 pixels")
    if window not in WINDOWS:
        raise ConfigError(f"window {window!r}: choose one of {', '.join(WINDOWS)}")
    if not 1 <= supersampling <= 4:
        raise ConfigError(f"supersampling {supersampling}: choose 1 to 4")
    if not 1 <= min_objects <= max_objects <= MAX_OBJECTS:
        raise ConfigError(
            f"{min_objects} to {max_objects} objects: choose a range within 1 to {MAX_OBJECTS}"
        )
