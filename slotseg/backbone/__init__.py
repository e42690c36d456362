"""Pixels to feature maps: backbones in Detectron2's own BACKBONE_REGISTRY."""

from slotseg.backbone.feature_pyramid import VisionTransformerPyramid, build_dinov2_fpn_backbone
from slotseg.backbone.resnet_fpn import TrimmedFPN, build_trimmed_resnet_fpn_backbone
from slotseg.backbone.simple_cnn import SimpleCNN, build_simple_cnn_backbone
from slotseg.backbone.unet import LeanUNet, build_lean_unet_backbone
from slotseg.backbone.vit import VisionTransformerBackbone, build_dinov2_backbone

__all__ = [
    "LeanUNet",
    "SimpleCNN",
    "TrimmedFPN",
    "VisionTransformerBackbone",
    "VisionTransformerPyramid",
    "build_dinov2_backbone",
    "build_dinov2_fpn_backbone",
    "build_lean_unet_backbone",
    "build_simple_cnn_backbone",
    "build_trimmed_resnet_fpn_backbone",
]
