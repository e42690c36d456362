import pytest
import torch
from detectron2.modeling import build_model

from slotseg import SlotSeg, get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.decoders import Decoded
from slotseg.errors import ConfigError, DatasetError

TINY = [
    "MODEL.DEVICE", "cpu",
    "MODEL.SIMPLE_CNN.CHANNELS", [8, 8],
    "MODEL.SIMPLE_CNN.STRIDES", [2, 1],
    "MODEL.SLOTS.IN_FEATURE", "s2",
    "MODEL.SLOTS.NUM_SLOTS", 4,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.SPATIAL_BROADCAST.CHANNELS", [8, 8],
    "MODEL.SPATIAL_BROADCAST.STRIDES", [2, 2],
]  # fmt: skip


def make_model(*overrides):
    torch.manual_seed(0)
    return build_model(get_cfg(overrides=[*TINY, *overrides]))


def make_batch(size=(32, 32), masks=True, **extra):
    generator = torch.Generator().manual_seed(1)
    batch = []
    for name in ("a.png", "b.png"):
        x = {
            "file_name": name,
            "image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8),
        }
        if masks:
            x["segment_map"] = torch.randint(0, 3, size, generator=generator)
        batch.append({**x, **extra})
    return batch


def test_losses_follow_the_config():
    model = make_model("LOSSES.MASKS.WEIGHT", 1.0)
    losses = model(make_batch())
    assert set(losses) == {
        "loss_reconstruction", "loss_mask_pixel", "loss_mask_dice", "loss_diversity"
    }  # fmt: skip
    assert all(loss.ndim == 0 and loss.dtype == torch.float32 for loss in losses.values())


def test_every_parameter_gets_a_gradient():
    model = make_model("LOSSES.MASKS.WEIGHT", 1.0)
    sum(model(make_batch()).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_without_masks_it_learns_from_reconstruction_alone():
    assert "loss_reconstruction" in make_model()(make_batch(masks=False))


@torch.no_grad()
def test_inference_contract():
    model = make_model().eval()
    outputs = model(make_batch(height=40, width=48))
    assert len(outputs) == 2
    for output in outputs:
        segments, info = output["panoptic_seg"]
        assert segments.shape == (40, 48)
        assert segments.dtype == torch.int32
        assert {x["id"] for x in info} == set(segments.unique().tolist())
        for x in info:
            assert x["area"] == int((segments == x["id"]).sum())
            assert x["slot"] == x["id"] - 1
            assert x["isthing"] is True
        assert output["slots"].shape == (4, 16)
        assert output["slot_masks"].shape == (4, 32, 32)
        torch.testing.assert_close(output["slot_masks"].sum(0), torch.ones(32, 32))
        assert output["attention"].shape == (4, 16, 16)
        torch.testing.assert_close(output["attention"].sum(0), torch.ones(16, 16))
        assert output["reconstruction"].shape == (3, 32, 32)
        assert 0 <= output["reconstruction"].min() <= output["reconstruction"].max() <= 255


@torch.no_grad()
def test_segments_are_the_winning_slots():
    model = make_model().eval()
    output = model(make_batch())[0]
    winner = output["slot_masks"].argmax(dim=0) + 1
    assert torch.equal(output["panoptic_seg"][0].long(), winner)


def test_pixels_are_normalised_with_mean_and_deviation():
    model = make_model()
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2).expand(3, 1, 2)
    batch = model.preprocess([{"image": image}])
    torch.testing.assert_close(batch, torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2))


def test_a_reconstruction_is_shown_in_the_units_of_the_input():
    """A decoder that returns the normalised image gives back the image itself."""
    model = make_model().eval()
    batch = make_batch()

    class Copy(torch.nn.Module):
        def forward(self, slots, features, images):
            return Decoded(torch.zeros(2, 4, 32, 32), model.preprocess(batch))

    model.decoders = torch.nn.ModuleList([Copy()])
    output = model(batch)[1]["reconstruction"]
    torch.testing.assert_close(output, batch[1]["image"].float(), atol=1e-3, rtol=0.0)


def test_bf16_autocast_is_applied_inside_and_losses_stay_float32():
    model = make_model("LOSSES.MASKS.WEIGHT", 1.0)
    seen = []
    model.backbone.layers[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(make_batch())
    assert seen == [torch.bfloat16]
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_mixed_sizes_name_the_file():
    model, batch = make_model(), make_batch()
    batch[1]["image"] = batch[1]["image"][:, :16]
    with pytest.raises(DatasetError, match=r"b.png: size \(3, 16, 32\) differs"):
        model(batch)


def test_a_batch_with_and_without_masks_names_the_file():
    model, batch = make_model(), make_batch()
    del batch[1]["segment_map"]
    with pytest.raises(DatasetError, match="b.png: has no mask while others"):
        model(batch)


def test_a_missing_feature_lists_the_outputs():
    with pytest.raises(
        ConfigError, match="MODEL.SLOTS.IN_FEATURE: the backbone has no output 's9'"
    ):
        make_model("MODEL.SLOTS.IN_FEATURE", "s9")


def test_it_is_built_by_name():
    assert isinstance(make_model(), SlotSeg)


@torch.no_grad()
def test_duplicate_slots_are_left_out_when_asked():
    batch = make_batch()
    for limit, expected in ((1.0, {1, 2}), (0.5, {2})):
        model = make_model("TEST.MASK_NMS_IOU", limit).eval()

        class Share(torch.nn.Module):
            """Slots 0 and 1 claim everything; slot 1 wins all but one row."""

            def forward(self, slots, features, images):
                masks = torch.full((2, 4, 32, 32), 1e-4)
                masks[:, 0], masks[:, 1] = 0.4, 0.6
                masks[:, 0, 0] = 0.9
                return Decoded(masks.log(), None)

        model.decoders = torch.nn.ModuleList([Share()])
        segments, info = model(batch)[0]["panoptic_seg"]
        assert set(segments.unique().tolist()) == expected == {x["id"] for x in info}


class TestWithClasses:
    """A head, and panoptic inputs."""

    @pytest.fixture
    def model(self):
        names = [("road", False), ("car", True), ("sky", False)]
        set_class_metadata(
            "test_slotseg_street",
            [Category(i, name, thing, (0, 0, 0)) for i, (name, thing) in enumerate(names)],
        )
        return make_model(
            "MODEL.HEAD.NAME", "PanopticHead",
            "DATASETS.TRAIN", ("test_slotseg_street",),
            "LOSSES.MASKS.WEIGHT", 1.0,
            "MODEL.HEAD.OBJECT_THRESHOLD", 0.2,
        )  # fmt: skip

    @staticmethod
    def panoptic_batch(categories=(0, 1, 2), crowd=(False, False, False)):
        return make_batch(
            segment_category=torch.tensor(categories, dtype=torch.int64),
            segment_is_crowd=torch.tensor(crowd, dtype=torch.bool),
        )

    def test_losses_and_gradients(self, model):
        losses = model(self.panoptic_batch())
        assert "loss_class" in losses
        sum(losses.values()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []

    def test_crowd_is_void(self, model):
        crowd = self.panoptic_batch(crowd=(False, True, False))
        void = self.panoptic_batch()
        for x in void:
            x["segment_map"][x["segment_map"] == 1] = -1
        losses = []
        for batch in (crowd, void):
            torch.manual_seed(0)  # the slots start at random
            losses.append(model(batch))
        torch.testing.assert_close(*losses)

    def test_images_of_nothing_but_void(self, model):
        batch = self.panoptic_batch(categories=(), crowd=())
        for x in batch:
            x["segment_map"].fill_(-1)
        losses = model(batch)
        assert all(torch.isfinite(value) for value in losses.values())
        sum(losses.values()).backward()

    @torch.no_grad()
    def test_inference_at_the_wanted_size(self, model):
        (first, _) = model.eval()(make_batch(height=40, width=48))
        ids, info = first["panoptic_seg"]
        assert ids.shape == (40, 48) and ids.dtype == torch.int32
        assert info
        for x in info:
            assert x["area"] == int((ids == x["id"]).sum()) > 0
            assert x["isthing"] == (x["category_id"] == 1)

    def test_segments_without_classes_are_refused(self, model):
        with pytest.raises(DatasetError, match=r"a\.png: its segments have no classes"):
            model(make_batch())
