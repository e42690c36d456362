"""Query models of the `transformers` library, trained and evaluated as any other model.

The library is an optional extra. It is imported when a model is built, not before: it takes
seconds, and everything else works without it.
"""

from slotseg.meta_arch.huggingface.eomt import HFEoMT
from slotseg.meta_arch.huggingface.mask2former import HFMask2Former

__all__ = ["HFEoMT", "HFMask2Former"]
