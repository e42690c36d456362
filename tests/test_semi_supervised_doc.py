"""What docs/semi_supervised.md and docs/ablations.md name is there."""

import re
from pathlib import Path

import pytest

from slotseg import get_cfg
from slotseg.ablation import make_study_plan, read_study

ROOT = Path(__file__).parents[1]
TEXTS = {
    name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("semi_supervised", "ablations")
}
SECTIONS = set(get_cfg())


def block(text, language, beginning):
    """The first block of code that begins so, without its indentation."""
    found = re.search(
        rf"^( *)```{language}\n( *{re.escape(beginning)}.*?)^ *```", text, re.M | re.S
    )
    return "\n".join(line.removeprefix(found[1]) for line in found[2].splitlines()) + "\n"


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_key_is_one(name):
    named = set(re.findall(r"`([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+)", TEXTS[name]))
    assert len(named) > 3
    for key in sorted(named):
        node = get_cfg()
        for part in key.split("."):
            assert part in node, key
            node = node[part]


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_file_is_there(name):
    text = TEXTS[name]
    linked = re.findall(r"\]\(([^)#]+)", text)
    named = re.findall(r"(?:tools|benchmarks|configs)/[\w/]+\.(?:py|yaml)", text)
    assert linked and named
    for path in linked:
        assert (ROOT / "docs" / path).is_file(), path
    for path in named:
        assert (ROOT / path).is_file(), path


def test_the_config_for_data_of_ones_own_is_one(tmp_path):
    written = block(TEXTS["semi_supervised"], "yaml", "_BASE_").replace(
        "configs/", f"{ROOT}/configs/"
    )
    path = tmp_path / "parts.yaml"
    path.write_text(written)
    cfg = get_cfg(str(path))
    assert cfg.MEAN_TEACHER.ENABLED and cfg.SEMI.IMS_PER_BATCH == cfg.SOLVER.IMS_PER_BATCH
    assert cfg.DATASETS.UNLABELED_FOLDERS == ("/data/parts/unlabelled",)
    for mentioned in ("slots/base_panoptic_lean.yaml", "semi/base_mean_teacher_small.yaml"):
        assert Path(mentioned).name in TEXTS["semi_supervised"]
        assert (ROOT / "configs" / mentioned).is_file()


def test_the_study_that_is_shown_can_be_made(tmp_path):
    folder = tmp_path / "ablations"
    folder.mkdir()
    (tmp_path / "cityscapes").symlink_to(ROOT / "configs" / "cityscapes")
    (tmp_path / "slots").symlink_to(ROOT / "configs" / "slots")
    path = folder / "study.yaml"
    path.write_text(block(TEXTS["ablations"], "yaml", "name:"))
    plan = make_study_plan(read_study(str(path)), str(tmp_path / "out"), steps=1)
    assert len(plan.jobs) == 4
    path.write_text(path.read_text() + block(TEXTS["ablations"], "yaml", "curve:"))
    study = read_study(str(path))
    assert study.curve.label == "labelled images"
