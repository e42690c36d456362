"""Reading ladders."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotseg.config import get_cfg
from slotseg.errors import ConfigError
from slotseg.ladder import make_ladder_plan, read_ladder

LADDERS = sorted((Path(__file__).parents[2] / "configs").rglob("ladder*.yaml"))


def test_a_ladder_is_read_with_paths_beside_it_and_names_of_files(ladder_file):
    ladder = read_ladder(str(ladder_file))
    assert [rung.name for rung in ladder.rungs] == ["0_plain", "second"]
    assert ladder.rungs[1].config_file == str(ladder_file.parent / "1_started.yaml")
    assert ladder.rungs[0].gate == {}
    (start,) = ladder.pretraining
    assert (start.name, start.weights_for) == ("start", "MODEL.WEIGHTS")
    assert [rung.name for rung in ladder.only(["second"]).rungs] == ["second"]
    with pytest.raises(ConfigError, match="--only: no rung is called 'third'; choose from 0_plain"):
        ladder.only(["third"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rungs": []}, "rungs: there are none"),
        ({"rungs": ["0_plain.yaml"]}, "rung 0 is no mapping"),
        ({"rungs": [{"name": "x"}]}, "rung 0 lacks config"),
        ({"rungs": [{"config": "a.yaml", "gates": {}}]}, "rung 0 has unknown gates"),
        ({"rungs": [{"config": "a.yaml", "gate": {"slots/ARI": "high"}}]}, "rung 0: gate"),
        ({"rungs": [{"config": "a.yaml"}, {"config": "b/a.yaml"}]}, "a names two entries"),
        ({"scores": "slots/ARI"}, "scores: expected a list"),
        ({"scores": ["ARI"]}, "scores: expected a list"),
        ({"pretraining": [{"config": "a.yaml"}]}, "pretraining 0 lacks weights_for"),
        ({"colour": "red"}, "the file has unknown colour"),
    ],
)
def test_what_is_wrong_with_a_ladder_is_one_line(change, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        change(**changes)
    assert str(error.value).count("\n") == 0
    assert "ladder.yaml: " in str(error.value)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(ConfigError, match="none.yaml: cannot be read"):
        read_ladder(str(tmp_path / "none.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("rungs: [")
    with pytest.raises(ConfigError, match="broken.yaml: not valid YAML"):
        read_ladder(str(broken))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minutes": 1.0, "steps": 1}, "exclude each other"),
        ({"minutes": 0.0}, "--minutes: must be positive"),
        ({"minutes": float("inf")}, "--minutes: must be positive"),
        ({"steps": 0}, "--steps: must be at least 1"),
        ({"seeds": []}, "--seeds"),
        ({"seeds": [1, 1]}, "--seeds"),
        ({"evaluations": 0}, "--evaluations"),
        ({"memory_size": (0, 8)}, "--memory-size"),
        ({"overrides": ["SOLVER.NONE", "1"]}, "unknown config key"),
        ({"overrides": ["DATASETS.TEST", "('mars',)"]}, "no data set 'mars'"),
        ({"overrides": ["DATASETS.TEST", "()"]}, "a ladder needs one set"),
    ],
)
def test_what_cannot_work_is_one_line(ladder_file, tmp_path, arguments, message):
    ladder = read_ladder(str(ladder_file))
    with pytest.raises(ConfigError, match=message) as error:
        make_ladder_plan(ladder, str(tmp_path / "out"), **arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_rungs_on_other_data_and_weights_for_nothing_are_refused(change, ladder_file, tmp_path):
    other = ladder_file.parent / "other.yaml"
    other.write_text('_BASE_: "0_plain.yaml"\nDATASETS: {TRAIN: ["clevr_generated_tune"]}\n')
    ladder = change(rungs=[{"config": "0_plain.yaml"}, {"config": "other.yaml"}])
    with pytest.raises(ConfigError, match="DATASETS differ: 0_plain has .* other has"):
        make_ladder_plan(ladder, str(tmp_path))
    ladder = change(
        rungs=[{"config": "0_plain.yaml"}],
        pretraining=[{"config": "start.yaml", "weights_for": "MODEL.NOWHERE"}],
    )
    with pytest.raises(ConfigError, match="weights_for: unknown config key MODEL.NOWHERE"):
        make_ladder_plan(ladder, str(tmp_path))


@pytest.mark.parametrize("path", LADDERS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_every_shipped_ladder_fits_together(path, tmp_path):
    """Its files are there, and a rung that is trained alone looks where the pre-training writes."""
    ladder = read_ladder(str(path))
    plan = make_ladder_plan(ladder, str(tmp_path))
    assert len(plan.pretraining()) == len(ladder.pretraining)
    for entry in ladder.pretraining:
        made = f"{get_cfg(entry.config_file).OUTPUT_DIR}/model_final.pth"
        for rung in ladder.rungs:
            value = get_cfg(rung.config_file)
            for key in entry.weights_for.split("."):
                value = value[key]
            assert value in ("", "hub", made), rung.name
