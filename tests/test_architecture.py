"""The arrows between rooms run one way (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "slotseg"
MODEL = {"meta_arch", "backbone", "slots", "decoders", "heads", "losses"}
# What a room must not import.
FORBIDDEN = {
    "ops": MODEL | {"data", "engine", "evaluation", "visualization", "config"},
    **{room: {"data", "engine", "evaluation", "visualization"} for room in MODEL},
    "backbone": {"slots", "decoders", "losses", "meta_arch", "data", "engine", "evaluation"},
    "slots": {"backbone", "decoders", "losses", "meta_arch", "data", "engine", "evaluation"},
    "decoders": {"backbone", "losses", "meta_arch", "data", "engine", "evaluation"},
    "heads": {"backbone", "decoders", "losses", "meta_arch", "data", "engine", "evaluation"},
    "losses": {"backbone", "meta_arch", "data", "engine", "evaluation"},
    "data": MODEL | {"engine", "evaluation", "visualization"},
    "evaluation": MODEL | {"data", "engine", "visualization"},
    "visualization": MODEL | {"data", "engine"},
    "unsupervised": MODEL | {"data", "engine", "evaluation", "visualization", "config"},
    # Pseudo labels are made around any model that says how sure it is.
    "semi": (MODEL - {"losses"}) | {"data", "engine", "evaluation", "visualization"},
    "engine": set(),
    "comparison": MODEL | {"data", "ops", "ladder"},
    "ladder": MODEL | {"data", "ops", "evaluation", "visualization", "ablation"},
    "ablation": MODEL | {"data", "ops", "evaluation", "visualization", "ladder"},
}
FORBIDDEN["comparison"] |= {"ablation"}
# Comparing models is the outermost room but for the ladder, which compares configs that build on
# one another, and the ablation, which compares variants of one: only tools enter them.
for room in FORBIDDEN.keys() - {"comparison", "ladder", "ablation"}:
    FORBIDDEN[room] |= {"comparison", "ladder", "ablation"}
# Clusters are found around a trained model, by the engine alone.
for room in FORBIDDEN.keys() - {"engine", "unsupervised"}:
    FORBIDDEN[room] |= {"unsupervised"}
# Labels are made in the training, by the engine alone.
for room in FORBIDDEN.keys() - {"engine", "semi"}:
    FORBIDDEN[room] |= {"semi"}


def imported_rooms(path: Path) -> set[str]:
    """First package level below slotseg of every import in a file."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "slotseg":
            names = [f"slotseg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("slotseg.")}
    return rooms


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_no_room_imports_against_the_arrows(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    wrong = {
        str(path.relative_to(PACKAGE)): sorted(bad)
        for path in files
        if (bad := imported_rooms(path) & FORBIDDEN[room])
    }
    assert wrong == {}


def test_only_compat_knows_about_versions():
    knowing = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if "detectron2._C" in path.read_text() or "pkg_resources" in path.read_text()
    ]
    assert knowing == ["compat.py"]
