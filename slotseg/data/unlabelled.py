"""Images without what people drew on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# What data set dicts say about segments: files with masks, and lists of segments.
_LABELS = ("pan_seg_file_name", "segments_info", "mask_file_name", "num_objects")


class WithoutLabels:
    """A mapper that reads images only: another one, which is shown no label.

    Args:
        mapper: from a data set dict to the model's input, which takes images without labels.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.mapper = mapper

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one data set dict, which itself stays as it is."""
        shown = {name: value for name, value in dataset_dict.items() if name not in _LABELS}
        return self.mapper(shown)
