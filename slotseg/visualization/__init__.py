"""Pictures: segments over images, slot masks, curves and the HTML report.

Nothing here knows the model or the engine: everything is drawn from arrays and files.
"""

from slotseg.visualization.examples import (
    Example,
    choose_images,
    draw_example_grid,
    example_panels,
)
from slotseg.visualization.hierarchy import draw_hierarchy
from slotseg.visualization.overlays import (
    draw_segment_map,
    draw_segments,
    draw_slot_sheet,
    enlarge,
    enlargement,
    matched_colors,
    slot_cutouts,
    tile,
    truth_colors,
)
from slotseg.visualization.palette import segment_colors
from slotseg.visualization.report import build_report, write_report
from slotseg.visualization.run_folder import Curve, RunFolder, curves_of, read_run_folder

__all__ = [
    "Curve",
    "Example",
    "RunFolder",
    "build_report",
    "choose_images",
    "curves_of",
    "draw_example_grid",
    "draw_hierarchy",
    "draw_segment_map",
    "draw_segments",
    "draw_slot_sheet",
    "enlarge",
    "enlargement",
    "example_panels",
    "matched_colors",
    "read_run_folder",
    "segment_colors",
    "slot_cutouts",
    "tile",
    "truth_colors",
    "write_report",
]
