"""Random colours: what ``INPUT.COLOR_JITTER`` and ``INPUT.STRONG`` describe.

Everything random is drawn from NumPy's global generator, as in all of Detectron2's augmentations;
the training loader seeds it for every sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from slotseg.errors import ConfigError

# Luma and the two chroma axes of YIQ (ITU-R BT.601, FCC NTSC) from RGB.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_LUMA = _YIQ[0]


def color_augmentation(cfg: CfgNode) -> list[T.Augmentation]:
    """What labelled images get: ``INPUT.STRONG`` if it is for them, else ``INPUT.COLOR_JITTER``.

    Raises:
        ConfigError: a key of either holds what cannot work.
    """
    strong = strong_augmentation(cfg)
    jitter = _jitter(cfg.INPUT.COLOR_JITTER, "INPUT.COLOR_JITTER")
    if cfg.INPUT.STRONG.LABELED:
        return strong
    return [] if jitter == ColorJitter() else [RandomColor(jitter, cfg.INPUT.FORMAT)]


def strong_augmentation(cfg: CfgNode) -> list[T.Augmentation]:
    """``INPUT.STRONG``: colours change, or go, and the image is blurred, each with a probability.

    These are the strong colours of UniMatch (Yang et al. 2023), which took them from SimCLR (Chen
    et al. 2020).

    Raises:
        ConfigError: a key holds what cannot work.
    """
    node, key = cfg.INPUT.STRONG, "INPUT.STRONG"
    for name in ("COLOR_PROBABILITY", "GRAYSCALE", "BLUR"):
        if not 0 <= node[name] <= 1:
            raise ConfigError(f"{key}.{name} is {node[name]}, expected a probability, 0 to 1")
    jitter, chain = _jitter(node, key), []
    if jitter != ColorJitter() and node.COLOR_PROBABILITY:
        color = RandomColor(jitter, cfg.INPUT.FORMAT)
        chain.append(T.RandomApply(color, node.COLOR_PROBABILITY))
    if node.GRAYSCALE and cfg.INPUT.FORMAT != "L":
        chain.append(RandomGrayscale(node.GRAYSCALE, cfg.INPUT.FORMAT))
    blur = RandomBlur(node.BLUR, tuple(node.BLUR_SIGMA))
    return [*chain, blur] if node.BLUR else chain


@dataclass(frozen=True)
class ColorJitter:
    """How far colours may change, as ``INPUT.COLOR_JITTER`` has it; 0 is not at all.

    Attributes:
        brightness: the factor is drawn from 1 - b to 1 + b.
        contrast: the same, of the distance to the image's mean grey.
        saturation: the same, of the distance to each pixel's own grey.
        hue: the turn is drawn from -h to h, in full turns; at most 0.5.
        key: the config's node, for messages.

    Raises:
        ConfigError: a value is negative or too large.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    key: str = field(default="INPUT.COLOR_JITTER", compare=False)

    def __post_init__(self) -> None:
        limits = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ConfigError(f"{self.key}.{name.upper()} is {value}, expected 0 to {limit}")


class RandomColor(T.Augmentation):
    """Random brightness, contrast, saturation and hue in one pass.

    All four are affine maps of RGB (hue as a rotation of the chroma plane of YIQ), so their
    product is one too, and values are cut to 0..255 only once, at the end.

    Args:
        jitter: ranges.
        image_format: "RGB", "BGR" or "L"; grey images have no saturation and hue.
    """

    def __init__(self, jitter: ColorJitter, image_format: str = "RGB") -> None:
        super().__init__()
        self.jitter = jitter
        self.image_format = image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a change for ``image``, uint8 ``[H, W, C]``."""
        # Always all four, so that one option does not change what the others draw.
        draws = np.random.uniform(-1, 1, 4)
        brightness = 1 + draws[0] * self.jitter.brightness
        contrast = 1 + draws[1] * self.jitter.contrast
        saturation = 1 + draws[2] * self.jitter.saturation
        channels = image.shape[2]
        mean = np.asarray(cv2.mean(np.ascontiguousarray(image))[:channels])
        if channels == 1:
            matrix, grey = np.eye(1), float(mean[0])
        else:
            matrix = _turn_hue(draws[3] * self.jitter.hue) @ _saturate(saturation)
            if self.image_format == "BGR":
                matrix, mean = matrix[::-1, ::-1], mean[::-1]
            grey = float(_LUMA @ mean)
        # Neither saturation nor hue moves a grey, so the mean's share is added at the end.
        offset = (1 - contrast) * brightness * grey
        return AffineColorTransform(brightness * contrast * matrix, offset)


class AffineColorTransform(T.Transform):
    """Colours times a matrix, plus the same number for every channel, cut to 0..255.

    Args:
        matrix: float ``[C, C]`` from the channels that come in to those that go out.
        offset: in grey levels.
    """

    def __init__(self, matrix: np.ndarray, offset: float) -> None:
        super().__init__()
        self._set_attributes({"matrix": matrix, "offset": offset})

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """uint8 ``[H, W, C]``."""
        offsets = np.full((len(self.matrix), 1), self.offset)
        affine = np.hstack([self.matrix, offsets]).astype(np.float32)
        return cv2.transform(np.ascontiguousarray(img), affine).reshape(img.shape)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return segmentation

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return coords

    def inverse(self) -> T.Transform:
        """Nothing: what comes back from a prediction has no colours."""
        return T.NoOpTransform()


class RandomGrayscale(T.Augmentation):
    """Every pixel becomes its own grey, with a probability.

    Args:
        probability: of a change.
        image_format: "RGB" or "BGR".
    """

    def __init__(self, probability: float, image_format: str = "RGB") -> None:
        super().__init__()
        self.probability = probability
        self.image_format = image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Decide for ``image``, uint8 ``[H, W, 3]``."""
        if np.random.uniform() >= self.probability:
            return T.NoOpTransform()
        luma = _LUMA[::-1] if self.image_format == "BGR" else _LUMA
        return AffineColorTransform(np.outer(np.ones(3), luma), 0.0)


class RandomBlur(T.Augmentation):
    """A Gaussian blur, with a probability.

    Args:
        probability: of a change.
        sigma: smallest and largest deviation in pixels.

    Raises:
        ConfigError: ``sigma`` is no such pair.
    """

    def __init__(self, probability: float, sigma: Sequence[float]) -> None:
        super().__init__()
        if len(sigma) != 2 or not 0 < sigma[0] <= sigma[1]:
            raise ConfigError(
                f"INPUT.STRONG.BLUR_SIGMA is {tuple(sigma)}, expected (smallest, largest) "
                "deviation in pixels, above 0"
            )
        self.probability = probability
        self.sigma = tuple(sigma)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Decide for ``image``, uint8 ``[H, W, C]``."""
        chance, place = np.random.uniform(size=2)
        if chance >= self.probability:
            return T.NoOpTransform()
        return BlurTransform(self.sigma[0] + place * (self.sigma[1] - self.sigma[0]))


class BlurTransform(T.Transform):
    """A Gaussian blur of images; edges are mirrored. Maps and points stay.

    Args:
        sigma: deviation in pixels.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self._set_attributes({"sigma": sigma})

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """uint8 ``[H, W, C]``."""
        blurred = cv2.GaussianBlur(np.ascontiguousarray(img), (0, 0), self.sigma)
        return blurred.reshape(img.shape)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return segmentation

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return coords

    def inverse(self) -> T.Transform:
        """Nothing: what comes back from a prediction has no colours."""
        return T.NoOpTransform()


def _jitter(node: CfgNode, key: str) -> ColorJitter:
    return ColorJitter(node.BRIGHTNESS, node.CONTRAST, node.SATURATION, node.HUE, key)


def _saturate(factor: float) -> np.ndarray:
    """Matrix that scales the distance of a colour from its own grey."""
    return factor * np.eye(3) + (1 - factor) * np.outer(np.ones(3), _LUMA)


def _turn_hue(turn: float) -> np.ndarray:
    """Matrix that turns the chroma plane by ``turn`` of a full turn; greys stay."""
    angle = 2 * math.pi * turn
    cos, sin = math.cos(angle), math.sin(angle)
    turned = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.linalg.inv(_YIQ) @ turned @ _YIQ
