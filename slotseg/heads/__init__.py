"""Slots to classes and panoptic segments."""

from slotseg.heads.build import HEAD_REGISTRY, build_head

__all__ = ["HEAD_REGISTRY", "build_head"]
