"""Training signals: each loss a small module, chosen and weighted by the config."""

from slotseg.losses.build import build_losses
from slotseg.losses.class_map import ClassMapLoss
from slotseg.losses.consistency import ScaleConsistencyLoss
from slotseg.losses.contrastive import ContrastiveSlotLoss
from slotseg.losses.diffusion import DiffusionLoss
from slotseg.losses.diversity import DiversityLoss
from slotseg.losses.features import FeatureLoss
from slotseg.losses.masks import MaskLoss
from slotseg.losses.matcher import MaskMatcher
from slotseg.losses.objectness import ObjectnessLoss
from slotseg.losses.reconstruction import ReconstructionLoss
from slotseg.losses.step import Prediction, Seen, TrainingStep
from slotseg.losses.uncertainty import UncertaintyLoss
from slotseg.losses.views import ViewSpec
from slotseg.losses.weighting import FixedWeighting, UncertaintyWeighting, build_weighting

__all__ = [
    "ClassMapLoss",
    "ContrastiveSlotLoss",
    "DiffusionLoss",
    "DiversityLoss",
    "FeatureLoss",
    "FixedWeighting",
    "MaskLoss",
    "MaskMatcher",
    "ObjectnessLoss",
    "Prediction",
    "ReconstructionLoss",
    "ScaleConsistencyLoss",
    "Seen",
    "TrainingStep",
    "UncertaintyLoss",
    "UncertaintyWeighting",
    "ViewSpec",
    "build_losses",
    "build_weighting",
]
