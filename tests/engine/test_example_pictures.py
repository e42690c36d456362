"""Pictures in TensorBoard."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from slotseg.engine.hooks.example_pictures import picture_sheet
from slotseg.engine.pictures import drawn_pictures, picture_row
from slotseg.engine.trainer import Trainer


def shown(folder):
    """Names and steps of the pictures in a run's TensorBoard files, with the last's size."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {
        name: [(e.step, e.height, e.width) for e in events.Images(name)]
        for name in events.Tags()["images"]
        if name.startswith("examples/")
    }


def run(cfg):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def test_reconstructions_are_shown_every_period_and_at_the_end(tiny_cfg, tmp_path):
    run(
        tiny_cfg(
            "MODEL.DECODERS", ["SpatialBroadcastDecoder"],
            "MODEL.SPATIAL_BROADCAST.RESOLUTION", (4, 4),
            "MODEL.SPATIAL_BROADCAST.CHANNELS", [8],
            "MODEL.SPATIAL_BROADCAST.STRIDES", [2],
            "LOSSES.RECONSTRUCTION.WEIGHT", 1.0,
            "LOSSES.MASKS.WEIGHT", 0.0,
            "PICTURES.PERIOD", 3,
            "PICTURES.IMAGES", 2,
        )
    )  # fmt: skip
    found = shown(tmp_path / "run")
    # Two rows of three pictures of 32 pixels, 8 between them.
    assert found == {"examples/image, segments, reconstruction": [(i, 72, 112) for i in (2, 5, 7)]}


def test_an_autoencoder_shows_what_it_draws_and_weights_do_not_depend_on_it(tiny_cfg, tmp_path):
    options = (
        "MODEL.META_ARCHITECTURE", "LatentAutoencoder",
        "DATASETS.TEST", (),
        "MODEL.AUTOENCODER.CHANNELS", [8, 8],
        "MODEL.AUTOENCODER.BLOCKS", 1,
        "MODEL.AUTOENCODER.NORM_GROUPS", 4,
        "SOLVER.MAX_ITER", 3,
    )  # fmt: skip
    watched = run(tiny_cfg(*options, "PICTURES.PERIOD", 1)).plain_model.state_dict()
    unwatched = run(tiny_cfg(*options, "PICTURES.IMAGES", 0, output="other")).plain_model
    assert all(torch.equal(value, watched[k]) for k, value in unwatched.state_dict().items())
    assert [s for s, *_ in shown(tmp_path / "run")["examples/image, reconstruction"]] == [0, 1, 2]
    assert shown(tmp_path / "other") == {}


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_drawn_pictures_are_rgb(image_format):
    red = torch.tensor([255.0, 0.0, 0.0] if image_format == "RGB" else [0.0, 0.0, 255.0])
    output = {"reconstruction": red.view(3, 1, 1).expand(3, 2, 4), "slots": torch.zeros(1)}
    (picture,) = drawn_pictures(output, image_format).values()
    assert picture.shape == (2, 4, 3)
    assert (picture == [255, 0, 0]).all()


def test_panoptic_segments_have_the_colours_of_their_classes_at_the_size_of_the_image():
    metadata = Metadata(name="pictures", stuff_classes=["sky"], stuff_colors=[(1, 2, 3)])
    segments = torch.ones(8, 8, dtype=torch.int32)
    info = [{"id": 1, "category_id": 0, "isthing": False}]
    row = picture_row(
        {"image": torch.zeros(3, 4, 4, dtype=torch.uint8)},
        {"panoptic_seg": (segments, info)},
        "RGB",
        metadata,
    )
    assert list(row) == ["image", "segments"]
    assert np.array_equal(row["segments"], np.full((4, 4, 3), (1, 2, 3)))


def test_large_and_odd_images_fit_on_one_sheet():
    def row(height, width, value):
        return {label: np.full((height, width, 3), value, np.uint8) for label in ("image", "drawn")}

    sheet = picture_sheet([row(512, 1024, 10), row(500, 1100, 20)])
    assert sheet.shape == (2 * 256 + 8, 2 * 512 + 8, 3)
    assert (sheet[:256, :512] == 10).all() and (sheet[264:, 520:] == 20).all()
