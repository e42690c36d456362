"""Slots to classes and panoptic segments."""

from slotseg.heads.build import HEAD_REGISTRY, build_head
from slotseg.heads.instance_inference import instance_inference
from slotseg.heads.panoptic_head import PanopticHead
from slotseg.heads.panoptic_inference import panoptic_inference

__all__ = [
    "HEAD_REGISTRY",
    "PanopticHead",
    "build_head",
    "instance_inference",
    "panoptic_inference",
]
