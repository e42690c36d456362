"""Training signals: each loss a small module, chosen and weighted by the config."""

from slotseg.losses.build import build_losses
from slotseg.losses.diffusion import DiffusionLoss
from slotseg.losses.diversity import DiversityLoss
from slotseg.losses.features import FeatureLoss
from slotseg.losses.masks import MaskLoss
from slotseg.losses.matcher import MaskMatcher
from slotseg.losses.reconstruction import ReconstructionLoss
from slotseg.losses.step import Prediction, Seen, TrainingStep
from slotseg.losses.views import ViewSpec

__all__ = [
    "DiffusionLoss",
    "DiversityLoss",
    "FeatureLoss",
    "MaskLoss",
    "MaskMatcher",
    "Prediction",
    "ReconstructionLoss",
    "Seen",
    "TrainingStep",
    "ViewSpec",
    "build_losses",
]
