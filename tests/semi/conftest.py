"""Unlabelled images as the loader yields them, and teachers without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slotseg.data.views import ViewRelation


@pytest.fixture
def unlabelled() -> Callable[..., dict[str, Any]]:
    """``unlabelled((h, w), window=(top, left, height, width), flip=False, size=None, ...)``."""

    def make(
        weak_size: tuple[int, int],
        window: tuple[int, int, int, int] | None = None,
        flip: bool = False,
        size: tuple[int, int] | None = None,
        content: tuple[int, int] | None = None,
        number: int = 0,
    ) -> dict[str, Any]:
        size = size or weak_size
        window = window or (0, 0, *weak_size)
        generator = torch.Generator().manual_seed(number)
        image = torch.randint(0, 256, (3, *weak_size), generator=generator, dtype=torch.uint8)
        return {
            "file_name": f"{number}.png",
            "image_id": f"{number}",
            "height": size[0],
            "width": size[1],
            "image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8),
            "weak_image": image,
            "view": ViewRelation(*window, flip, size, weak_size, content or weak_size),
        }

    return make


class MadeUpTeacher:
    """Answers with the same segments for every image, mirrored where the image is.

    Args:
        ids: ``[h, w]``.
        segments: ``segments_info``.
        probs: ``[C, h', w']``, given on request; None: never.
    """

    def __init__(self, ids: Tensor, segments: list[dict[str, Any]], probs: Tensor | None = None):
        self.answer = (ids, segments)
        self.probs = probs
        self.calls: list[list[dict[str, Any]]] = []

    def __call__(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.calls.append(inputs)
        return [
            {"panoptic_seg": self.answer}
            | ({"pixel_probs": self.probs} if x.get("want_pixel_probs") else {})
            if self.probs is not None
            else {"panoptic_seg": self.answer}
            for x in inputs
        ]


@pytest.fixture
def made_up_teacher() -> type[MadeUpTeacher]:
    """The class; its instances are models."""
    return MadeUpTeacher
