"""What a teacher and its student see of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slotseg.config import get_cfg
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.data.two_views import TwoViewMapper
from slotseg.errors import ConfigError, DatasetError

QUIET = {"INPUT.STRONG.COLOR_PROBABILITY": 0.0, "INPUT.STRONG.GRAYSCALE": 0.0,
         "INPUT.STRONG.BLUR": 0.0}  # fmt: skip


def make_cfg(**changes: Any):
    values = {
        "INPUT.IMAGE_SIZE": (24, 32),
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return get_cfg(None, [item for pair in values.items() for item in pair])


def entry(folder: Path, size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    """An image of smooth colours, in which places can be told apart."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.dstack([rows * 4, columns * 4, rows * 0 + 90]).astype(np.uint8)
    path = folder / "image.png"
    Image.fromarray(image).save(path)
    return {"file_name": str(path), "image_id": "image", "replaceable": True}


def mapped(cfg, dataset_dict: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    np.random.seed(seed)
    return TwoViewMapper.from_config(cfg)(dataset_dict)


def away_from_edges(where: torch.Tensor) -> torch.Tensor:
    """The pixels of a bool map [H, W] whose neighbours, up to three away, are of it as well."""
    rest = torch.nn.functional.pad((~where)[None].float(), (3, 3, 3, 3), value=1)
    return torch.nn.functional.max_pool2d(rest, 7, 1)[0] == 0


def test_what_a_mapped_dict_holds(tmp_path):
    cfg = make_cfg()
    result = mapped(cfg, entry(tmp_path))
    assert sorted(result) == [
        "file_name", "height", "image", "image_id", "view", "weak_image", "width",
    ]  # fmt: skip
    for key in ("image", "weak_image"):
        assert result[key].shape == (3, 24, 32) and result[key].dtype == torch.uint8
    assert (result["height"], result["width"]) == (24, 32) == result["view"].size


def test_the_weak_view_is_the_training_chain_without_colours(tmp_path):
    dataset_dict = entry(tmp_path)
    for seed in range(6):
        chain = {"INPUT.RANDOM_FLIP": "horizontal", "INPUT.RESIZE": "scale_jitter"}
        np.random.seed(seed)
        labelled = PanopticMapper(make_cfg(**chain), True)(dataset_dict)
        jittered = make_cfg(**chain, **{"INPUT.STRONG.LABELED": True})
        assert torch.equal(mapped(jittered, dataset_dict, seed)["weak_image"], labelled["image"])


@pytest.mark.parametrize("resize", ["fixed", "scale_jitter", "shortest_edge"])
def test_without_colours_the_students_view_is_the_weak_one_carried_over(tmp_path, resize):
    """The ramp tells places: image and map agree, whatever chain made the weak view."""
    dataset_dict = entry(tmp_path)
    options = {
        **QUIET,
        "INPUT.RESIZE": resize,
        "INPUT.MIN_SIZE_TRAIN": (20, 26),
        "INPUT.RANDOM_FLIP": "horizontal",
        "SEMI.VIEW_SCALE": (0.5, 1.4),
    }
    flips, padded = set(), False
    for seed in range(12):
        result = mapped(make_cfg(**options), dataset_dict, seed)
        view, weak, strong = result["view"], result["weak_image"], result["image"]
        flips.add(view.flip)
        assert tuple(weak.shape[1:]) == view.weak_size and tuple(strong.shape[1:]) == view.size
        carried = view.carry(weak.int(), fill=-1)
        inside = carried[0] >= 0
        # Next to padding and to the edges of the window colours are blended.
        inner, outer = away_from_edges(inside), away_from_edges(~inside)
        assert inner.any()
        distance = (carried - strong.int()).abs().amax(0)
        # The nearest pixel is at most half a pixel away.
        picture = weak[:, : view.content[0], : view.content[1]].int()
        steepest = max(picture.diff(dim=1).abs().max(), picture.diff(dim=2).abs().max())
        assert distance[inner].max() <= steepest / 2 + 2
        assert (strong[:, outer] == 128).all()
        padded |= bool(outer.any())
        if resize == "scale_jitter":
            content = weak[:, view.content[0] :].flatten().tolist()
            assert set(content) <= {128}
    assert flips == {True, False} and padded


def test_strong_colours_are_the_students_alone(tmp_path):
    dataset_dict = entry(tmp_path)
    options = {"INPUT.RANDOM_FLIP": "horizontal"}
    changed = 0
    for seed in range(10):
        loud = mapped(make_cfg(**options), dataset_dict, seed)
        quiet = mapped(make_cfg(**options, **QUIET), dataset_dict, seed)
        assert loud["view"] == quiet["view"]
        assert torch.equal(loud["weak_image"], quiet["weak_image"])
        changed += not torch.equal(loud["image"], quiet["image"])
    assert changed >= 7


def test_labels_are_never_looked_for(tmp_path):
    dataset_dict = entry(tmp_path) | {
        "pan_seg_file_name": "/nowhere.png", "mask_file_name": "/nowhere.png", "height": 1,
    }  # fmt: skip
    before = dict(dataset_dict)
    assert mapped(make_cfg(), dataset_dict)["image"].shape == (3, 24, 32)
    assert dataset_dict == before


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
def test_formats(tmp_path, image_format):
    dataset_dict = entry(tmp_path)
    result = mapped(make_cfg(INPUT__FORMAT=image_format, **QUIET), dataset_dict)
    channels = 1 if image_format == "L" else 3
    assert result["image"].shape == result["weak_image"].shape == (channels, 24, 32)
    if image_format == "BGR":
        rgb = mapped(make_cfg(**QUIET), dataset_dict)
        assert torch.equal(result["image"].flip(0), rgb["image"])


def test_a_crop_window_is_cut_out_first(tmp_path):
    dataset_dict = entry(tmp_path)
    window = (10, 20, 34, 52)
    cfg = make_cfg(INPUT__CROP_WINDOW=window, **QUIET)
    weak = mapped(cfg, dataset_dict)["weak_image"]
    rows, columns = np.mgrid[10:34, 20:52]
    assert np.array_equal(weak[0].numpy(), rows * 4) and np.array_equal(weak[1], columns * 4)
    with pytest.raises(DatasetError, match=r"image.png: INPUT.CROP_WINDOW .* does not fit into"):
        mapped(make_cfg(INPUT__CROP_WINDOW=(0, 0, 41, 20)), dataset_dict)
    with pytest.raises(ConfigError, match="INPUT.CROP_WINDOW"):
        TwoViewMapper.from_config(make_cfg(INPUT__CROP_WINDOW=(5, 5, 5, 9)))
