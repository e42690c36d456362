"""Reading studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotseg.ablation import make_study_plan, read_study
from slotseg.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "ablations").glob("*.yaml"))


def test_a_study_is_read_and_variants_build_on_each_other(write_study_file, tmp_path):
    study = read_study(write_study_file())
    assert study.config_file == str(tmp_path / "model.yaml")
    assert study.reference == "plain"
    assert study.scores[0] == "panoptic/PQ"
    plain, colours, both = study.variants
    assert (plain.settings, plain.reason) == ({}, "")
    assert colours.reason == "few images are soon known by heart"
    assert both.settings == {
        "INPUT.COLOR_JITTER.BRIGHTNESS": 0.4,
        "INPUT.RANDOM_FLIP": "horizontal",
    }
    assert [v.name for v in study.only(["both"]).variants] == ["plain", "both"]
    with pytest.raises(ConfigError, match=r"--only: .*study.yaml has no variant 'x'; choose from"):
        study.only(["x"])


def test_a_variant_settles_what_those_it_builds_on_disagree_about(write_study_file):
    first = {"name": "slow", "overrides": {"SOLVER.BASE_LR": 0.001}}
    second = {"name": "fast", "overrides": {"SOLVER.BASE_LR": 0.1}}
    both = {"name": "both", "with": ["slow", "fast"]}
    with pytest.raises(ConfigError, match="variant 'both': with: SOLVER.BASE_LR is 0.001 and, of"):
        read_study(write_study_file(variants=[first, second, both]))
    both["overrides"] = {"SOLVER.BASE_LR": 0.01}
    study = read_study(write_study_file(variants=[first, second, both]))
    assert study.variants[2].settings == {"SOLVER.BASE_LR": 0.01}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": []}, "the file lacks|variants: expected a list"),
        ({"variants": None}, "the file lacks variants"),
        ({"variants": ["plain"]}, "variant 0 is no mapping"),
        ({"variants": [{"overrides": {}}]}, "variant 0 lacks name"),
        ({"variants": [{"name": "a\nb"}]}, "variant 0: name: expected one line"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variant 1: 'a' names two variants"),
        ({"variants": [{"name": "a", "config": "b"}]}, "variant 0 has unknown config, expected"),
        ({"variants": [{"name": "a", "with": "b"}]}, "variant 'a': with: expected a list"),
        ({"variants": [{"name": "a", "with": ["a"]}]}, "'a' is no variant further up"),
        ({"variants": [{"name": "a", "overrides": ["SEED", 1]}]}, "overrides: expected KEY: VALUE"),
        ({"overrides": "SEED 1"}, "the file: overrides: expected KEY: VALUE"),
        ({"config": 3}, "config: expected the name of a file"),
        ({"reference": "nobody"}, "reference: no variant is called 'nobody'"),
        ({"scores": ["PQ"]}, "scores: expected a list"),
        ({"scores": ["panoptic/PQ", "panoptic/PQ"]}, "scores: one stands there twice"),
        ({"curve": {"key": "SEED"}}, "curve lacks values"),
        ({"curve": {"key": "SEED", "values": [1]}}, "curve: values: expected at least two"),
        ({"curve": {"key": "SEED", "values": [1, "2"]}}, "curve: values: expected at least two"),
        ({"curve": {"key": "SEED", "values": [2, 1]}}, "curve: values: have to rise"),
        ({"color": 1}, "the file has unknown color"),
    ],
)
def test_what_is_wrong_with_a_study_is_one_line(write_study_file, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_study(write_study_file(**changes))
    assert "\n" not in str(error.value)
    assert "study.yaml: " in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="none.yaml: cannot be read"):
        read_study(str(tmp_path / "none.yaml"))
    path = tmp_path / "study.yaml"
    for text, message in (
        ("variants: [", "study.yaml: not valid YAML"),
        ("name: a\nname: b\n", "study.yaml: not valid YAML: name stands there twice"),
        ("- a\n", "study.yaml: the file is no mapping"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as error:
            read_study(str(path))
        assert "\n" not in str(error.value)


def test_studies_are_shipped():
    assert {path.stem for path in SHIPPED} >= {"semi_streets", "semi_label_counts"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_make_plans(path, tmp_path):
    """Every key is known, and no two variants are the same training."""
    study = read_study(str(path))
    plan = make_study_plan(study, str(tmp_path), steps=10, seeds=[0, 1])
    points = len(study.curve.values) if study.curve else 1
    assert len(plan.jobs) == 2 * points * len(study.variants)
    assert len({job.folder for job in plan.jobs}) == len(plan.jobs)
