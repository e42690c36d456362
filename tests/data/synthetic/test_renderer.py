from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from slotseg.data.synthetic.camera import WINDOWS, Camera
from slotseg.data.synthetic.clevr import generate_scene, render_scene
from slotseg.data.synthetic.clevr_scene import (
    CAMERA_POSITION,
    COLORS,
    FOCAL,
    SIZES,
    SceneDescription,
    SceneObject,
    sample_scene,
)
from slotseg.data.synthetic.renderer import Renderer
from slotseg.data.synthetic.visibility import object_ids


def scene_of(*objects: SceneObject) -> SceneDescription:
    camera = Camera.look_at(CAMERA_POSITION, np.zeros(3), FOCAL)
    return SceneDescription(objects, camera, np.zeros((3, 3)))


def thing(shape="cube", color="gray", material="rubber", x=0.0, y=0.0, rotation=0.0) -> SceneObject:
    return SceneObject(shape, "large", color, material, (x, y, SIZES["large"]), rotation)


def radiance(scene: SceneDescription, size=(60, 80), supersampling=2) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return Renderer(scene, rng).render(WINDOWS["full"], size, supersampling)


def test_shadows_are_darker_than_the_same_ground_without_the_object() -> None:
    small = replace(thing(x=2.9, y=2.9), size="small", position=(2.9, 2.9, 0.35))
    empty, _ = radiance(scene_of(small))
    picture, mask = radiance(scene_of(small, thing()))
    ground = mask == 0
    ratio = (picture / empty).mean(-1)
    assert 0.02 < (ratio[ground] < 0.9).mean() < 0.3  # shadows
    assert 0.15 < ratio[ground].min() < 0.7  # deep ones, but light bounces into them
    assert 0.98 < np.median(ratio[ground]) < 1.02  # most of the ground is as before


def test_metal_reflects_its_neighbour_and_rubber_does_not() -> None:
    def redder(material: str) -> np.ndarray:
        """How much more red than blue a cube is beside a red ball than beside a blue one."""
        pictures = []
        for color in ("red", "blue"):
            scene = scene_of(thing(material=material), thing("sphere", color, x=1.5))
            picture, mask = radiance(scene, (120, 160))
            pictures.append(picture[mask == 1])
        change = pictures[0] - pictures[1]
        return change[:, 0] - change[:, 2]

    metal, rubber = redder("metal"), redder("rubber")
    assert (metal > 0.03).sum() > 50 and metal.min() > -0.1
    assert (rubber > 0.03).sum() < 5


def test_metal_mirrors_the_ground_below_and_the_dark_above() -> None:
    picture, mask = radiance(scene_of(thing("sphere", material="metal")), (120, 160))
    rows, columns = np.nonzero(mask == 1)
    values = picture[rows, columns].mean(-1)
    middle, reach = rows.mean(), np.ptp(rows) / 2
    below = np.median(values[(rows > middle + 0.3 * reach) & (rows < middle + 0.8 * reach)])
    above = np.median(values[(rows < middle - 0.3 * reach) & (rows > middle - 0.8 * reach)])
    assert below > 2 * above
    assert values.max() > 0.8  # highlights of the lamps


def test_rubber_shows_its_albedo_under_nearly_white_light() -> None:
    names = ("gray", "green", "yellow", "blue")
    pictures = []
    for color in names:
        picture, mask = radiance(scene_of(thing("cylinder", color)))
        pictures.append(picture[mask == 1].mean(0))
    albedo = np.array([COLORS[name] for name in names]) / 255
    slopes = []
    for channel in range(3):
        line = np.polyfit(albedo[:, channel], np.array(pictures)[:, channel], 1)
        fitted = np.polyval(line, albedo[:, channel])
        np.testing.assert_allclose(np.array(pictures)[:, channel], fitted, atol=0.006)
        assert 0 < line[1] < 0.03  # the clear coat
        slopes.append(line[0])
    np.testing.assert_allclose(slopes, np.mean(slopes), rtol=0.1)


def test_light_falls_off_away_from_the_lamps() -> None:
    small = replace(thing(x=-2.9, y=2.9), size="small", position=(-2.9, 2.9, 0.35))
    picture, _ = radiance(scene_of(small))
    assert picture[-8:].mean() > 1.5 * picture[:8].mean()


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_mask_is_what_the_centres_of_pixels_meet(supersampling: int) -> None:
    for index in range(3):
        scene = sample_scene(np.random.default_rng([3, index]))
        solids = [o.solid for o in scene.objects]
        expected, _ = object_ids(solids, scene.camera, WINDOWS["clevr"], (64, 64))
        drawn = render_scene(scene, np.random.default_rng(0), (64, 64), "clevr", supersampling)
        np.testing.assert_array_equal(drawn.mask, expected)


def test_supersampling_smooths_outlines_and_keeps_the_level() -> None:
    scene = sample_scene(np.random.default_rng([3, 1]))
    coarse, mask = radiance(scene, (60, 80), 1)
    fine, _ = radiance(scene, (60, 80), 3)
    assert fine.mean() == pytest.approx(coarse.mean(), rel=0.02)
    outline = np.zeros(mask.shape, dtype=bool)
    outline[:, 1:] = mask[:, 1:] != mask[:, :-1]
    change = np.abs(fine - coarse).mean(-1)
    assert change[outline].mean() > 4 * np.median(change[~outline])


def test_windows_show_the_same_scene() -> None:
    full = generate_scene(4, 2, (240, 320), "full", 1)
    window = generate_scene(4, 2, (192, 192), "clevr", 1)
    assert (full.mask[29:221, 64:256] != window.mask).mean() < 1e-3
    difference = full.image[29:221, 64:256].astype(int) - window.image
    assert np.abs(difference).mean() < 3
    for one, other in zip(full.objects, window.objects, strict=True):
        np.testing.assert_allclose(
            np.subtract(one["pixel_coords"], other["pixel_coords"]), (64, 29, 0), atol=1e-9
        )
        assert {k: one[k] for k in ("shape", "size", "color", "material", "position")} == {
            k: other[k] for k in ("shape", "size", "color", "material", "position")
        }


def test_background_is_as_bright_as_in_published_pictures(samples_dir) -> None:
    folder = samples_dir / "clevr_with_mask_sample" / "sample"
    if not folder.is_dir():
        pytest.skip("no CLEVR samples here")

    def levels(image: np.ndarray, background: np.ndarray) -> np.ndarray:
        bands = [slice(0, 50), slice(50, 120), slice(120, 190), slice(190, 240)]
        return np.array([image[b][background[b]].mean() for b in bands])

    real = []
    for number in (0, 1):
        image = np.asarray(Image.open(folder / f"CLEVR_image_{number}.png"))
        background = np.asarray(Image.open(folder / f"CLEVR_mask_{number}_0.png")) > 127
        real.append(levels(image, background))
    drawn = []
    for index in range(8):
        scene = generate_scene(0, index, (240, 320), "full", 1)
        drawn.append(levels(scene.image, scene.mask == 0))
    # The lamps' jitter moves a scene by about 10 levels.
    np.testing.assert_allclose(np.mean(drawn, axis=0), np.mean(real, axis=0), atol=8)
