"""Parts of images: slots, patches, pixels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slotseg.errors import ConfigError
from slotseg.unsupervised.parts import ColorParts, FeatureParts, SlotParts, pooled


class ThreeSlots(nn.Module):
    """Slot 0 has the left, slot 2 the right half of an image, slot 1 nothing."""

    def __init__(self, with_slots=True):
        super().__init__()
        self.backbone = Rows()
        self.with_slots = with_slots

    def forward(self, batch):
        self.backbone(torch.stack([item["image"] for item in batch]))
        return [self.see(item["height"], item["width"]) for item in batch]

    def see(self, height, width):
        ids = torch.ones(height, width, dtype=torch.int32)
        ids[:, width // 2 :] = 3
        segments = [{"id": i, "category_id": 0, "slot": i - 1} for i in (1, 3)]
        masks = torch.zeros(3, 4, 8)
        masks[0, :, :4] = masks[2, :, 4:] = 1
        if not self.with_slots:
            segments = [{"id": 1, "category_id": 0}, {"id": 3, "category_id": 1}]
        slots = torch.arange(6.0).view(3, 2)
        # The attention sees the upper half as slot 1, the lower as slot 0.
        attention = torch.zeros(3, 2, 4)
        attention[1, 0] = attention[0, 1] = 1
        return {
            "panoptic_seg": (ids, segments), "slots": slots, "slot_masks": masks,
            "attention": attention,
        }  # fmt: skip


class Rows(nn.Module):
    """A map ``[B, 2, 2, 4]`` that counts its pixels."""

    def forward(self, images):
        counted = torch.arange(8.0).view(1, 1, 2, 4)
        return {"s2": torch.cat([counted, -counted], 1).expand(len(images), -1, -1, -1)}


BATCH = [{"image": torch.zeros(3, 4, 8, dtype=torch.uint8), "height": 8, "width": 16}] * 2


def test_slots_are_parts_with_their_vectors():
    parts = SlotParts(ThreeSlots())(BATCH)
    assert len(parts) == 2
    assert parts[1].ids.shape == (8, 16)
    assert parts[1].ids[:, :8].unique().tolist() == [0]
    assert parts[1].ids[:, 8:].unique().tolist() == [1]
    assert parts[1].embeddings.tolist() == [[0, 1], [4, 5]]


def test_slots_may_be_known_by_the_features_under_their_masks():
    model = ThreeSlots()
    parts = SlotParts(model, "features", "s2")(BATCH)[0]
    left, right = (0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4
    assert parts.embeddings.tolist() == [[left, -left], [right, -right]]
    assert not model.backbone._forward_hooks


def test_the_attention_may_share_out_the_image():
    for embedding, expected in (
        ("slot", [[0, 1], [2, 3]]),
        ("features", [[5.5, -5.5], [1.5, -1.5]]),
    ):
        parts = SlotParts(ThreeSlots(), embedding, "s2", "attention")(BATCH)[0]
        assert parts.ids[:4].unique().tolist() == [1]
        assert parts.ids[4:].unique().tolist() == [0]
        assert parts.embeddings.tolist() == expected


def test_pooling_weighs_pixels_and_survives_an_empty_mask():
    values = torch.tensor([[[1.0, 3.0]]])
    masks = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]])
    assert pooled(values, masks).flatten().tolist() == pytest.approx([2.5, 0.0])
    assert pooled(values, masks[:0]).shape == (0, 1)


def test_patches_are_parts_without_slots():
    parts = FeatureParts(ThreeSlots(), "s2")(BATCH)[0]
    assert parts.ids.shape == (8, 16)
    assert parts.ids[::4, ::4].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert parts.embeddings.tolist() == [[i, -i] for i in range(8)]


def test_pixels_are_parts_by_colour_and_place():
    image = torch.zeros(3, 2, 3, dtype=torch.uint8)
    image[0, 1, 2] = 255
    (parts,) = ColorParts()([{"image": image, "height": 2, "width": 3}])
    assert parts.ids.flatten().tolist() == list(range(6))
    assert parts.embeddings[0].tolist() == [0, 0, 0, 0, 0]
    assert parts.embeddings[5].tolist() == [1, 0, 0, 1, 1]
    assert parts.embeddings[4].tolist() == [0, 0, 0, 1, 0.5]


def test_slots_with_classes_are_refused():
    with pytest.raises(ConfigError, match="leave MODEL.HEAD.NAME empty"):
        SlotParts(ThreeSlots(with_slots=False))(BATCH)


def test_unknown_embeddings_are_refused():
    with pytest.raises(ConfigError, match="EMBEDDING is 'mean', choose slot or features"):
        SlotParts(ThreeSlots(), "mean")
    with pytest.raises(ConfigError, match="MASK_SOURCE is 'parents', .* decoder or attention"):
        SlotParts(ThreeSlots(), source="parents")
