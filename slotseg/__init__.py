"""SlotSeg: slot-based panoptic segmentation for Detectron2.

Importing this package fills Detectron2's and SlotSeg's registries and does nothing else.
"""

from slotseg import compat  # noqa: F401  first: it prepares the interpreter for Detectron2

from slotseg import backbone, decoders, heads, slots  # noqa: F401  isort: skip  fill the registries
from slotseg.config import add_slotseg_config, get_cfg
from slotseg.errors import SlotSegError
from slotseg.meta_arch import SlotSeg

__version__ = "0.1.0.dev0"

__all__ = ["SlotSeg", "SlotSegError", "add_slotseg_config", "get_cfg"]
