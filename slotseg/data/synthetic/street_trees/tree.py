"""What a published tree of files looks like, and encoders that all of them use."""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2
import numpy as np

from slotseg.data.synthetic.streets import StreetImage

#: Split names, everywhere in this project.
SPLITS = ("train", "tune", "val")


class StreetTree(ABC):
    """Layout of one data set: which files a scene becomes, and what is in them.

    Attributes:
        name: folder below ``streets_generated``.
        style: whose camera the scenes are seen with.
        size: (height, width) of the pictures unless another is asked for.
        stream: number that keeps the scenes of different trees apart.
    """

    name: str
    style: str
    size: tuple[int, int] = (256, 512)
    stream: int

    @abstractmethod
    def folders(self, split: str) -> tuple[str, ...]:
        """Folders, or single files, that hold the split, relative to the root of the set."""

    @abstractmethod
    def scene_files(self, split: str, index: int) -> tuple[str, ...]:
        """Files of one scene, in the order of :meth:`encode`; the last one is written last."""

    @abstractmethod
    def encode(self, split: str, index: int, scene: StreetImage) -> tuple[bytes, ...]:
        """Contents of :meth:`scene_files`."""

    def summarize(self, split: str, num_scenes: int, folder: str) -> dict[str, bytes]:
        """Files about the whole split, by path; ``folder`` holds all the scenes' files."""
        return {}


def encode_png(array: np.ndarray) -> bytes:
    """PNG of a grey uint8 or uint16 array [H, W], or of an RGB or RGBA one [H, W, 3 or 4]."""
    if array.ndim == 3:
        code = cv2.COLOR_RGB2BGR if array.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        array = cv2.cvtColor(array, code)
    return cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def encode_jpeg(array: np.ndarray) -> bytes:
    """JPEG of an RGB array uint8 [H, W, 3]."""
    bgr = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def outer_contours(mask: np.ndarray, offset: tuple[int, int] = (0, 0)) -> list[np.ndarray]:
    """Outlines int [n, 2] (column, row) of the connected parts of a mask, holes filled."""
    found, tree = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=offset
    )
    return [found[k][:, 0] for k in range(len(found)) if tree[0, k, 3] < 0]
