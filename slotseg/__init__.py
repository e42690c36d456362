"""SlotSeg: slot-based panoptic segmentation for Detectron2.

Importing this package fills Detectron2's and SlotSeg's registries and does nothing else.
"""

from slotseg import compat  # noqa: F401  first: it prepares the interpreter for Detectron2

__version__ = "0.1.0.dev0"
