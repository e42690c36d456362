"""What is refused before anything runs, and what makes another run."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotseg.comparison import AS_BUILT, make_plan
from slotseg.comparison.plan import Job
from slotseg.config import get_cfg
from slotseg.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["a", "b"]}, "--names: 2 names for 1 configs"),
        ({"weights": ["a", "b"]}, "--weights: 2 files for 1 configs"),
        ({"weights": [AS_BUILT], "minutes": 1.0}, "exclude each other"),
        ({"minutes": 0.0}, "--train-minutes: must be positive"),
        ({"minutes": float("inf")}, "--train-minutes: must be positive"),
        ({"seeds": [0, 0]}, "--seeds: must be different"),
        ({"seeds": [-1]}, "--seeds: must be different numbers from 0"),
        ({"evaluations": 0}, "--evaluations"),
        ({"clock": "sun"}, "unknown clock 'sun'"),
        ({"speed_images": 0}, "--speed-images"),
        ({"dataset": "mars"}, "no data set 'mars' is registered"),
        ({"overrides": ["DATASETS.TEST", "('a', 'b')"]}, "a comparison needs one set"),
        ({"overrides": ["SOLVER.NONE", "1"]}, "unknown config key"),
    ],
)
def test_what_cannot_work_is_one_line(tiny_config, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_plan([tiny_config], str(tmp_path / "out"), **arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_models_on_different_data_are_not_compared(tiny_config, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(
        f'_BASE_: "{tiny_config}"\nDATASETS: {{TRAIN: ["cityscapes_generated_tune"]}}\n'
    )
    both = [tiny_config, str(other)]
    with pytest.raises(ConfigError, match=r"DATASETS.TRAIN differs .*give --train-dataset"):
        make_plan(both, str(tmp_path), minutes=1.0)
    plan = make_plan(both, str(tmp_path), minutes=1.0, train_dataset="cityscapes_generated_train")
    assert plan.train_datasets == ("cityscapes_generated_train",)
    assert all(plan.train_datasets == job.config().DATASETS.TRAIN for job in plan.jobs)
    # Scoring weights asks nobody what they were trained on.
    assert make_plan(both, str(tmp_path), weights=[AS_BUILT] * 2).train_datasets == ()


def test_two_models_need_two_names(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="would name two models"):
        make_plan([tiny_config] * 2, str(tmp_path))


def test_a_run_has_its_own_folder_for_every_setting(tiny_config, tmp_path):
    def folder(**arguments):
        return make_plan([tiny_config], str(tmp_path), **arguments).jobs[0].folder

    settings = [
        {"minutes": 1.0},
        {"minutes": 2.0},
        {"weights": [AS_BUILT]},
        {"minutes": 1.0, "clock": "processor"},
        {"minutes": 1.0, "evaluations": 9},
        {"minutes": 1.0, "own_overrides": [["SOLVER.BASE_LR", 0.25]]},
        {"minutes": 1.0, "overrides": ["SOLVER.BASE_LR", "0.5"]},
        {"minutes": 1.0, "dataset": "cityscapes_generated_tune"},
    ]
    assert len({folder(**arguments) for arguments in settings}) == len(settings)
    # These two do not change what comes out.
    elsewhere = folder(minutes=1.0, overrides=["OUTPUT_DIR", "elsewhere"], command="x")
    assert elsewhere == folder(minutes=1.0)


def test_the_first_seed_of_every_model_comes_first(tiny_config, tmp_path):
    jobs = make_plan([tiny_config] * 2, str(tmp_path), names=["a", "b"], seeds=[4, 1]).jobs
    assert [(job.name, job.seed) for job in jobs] == [("a", 4), ("b", 4), ("a", 1), ("b", 1)]


def test_the_processor_is_no_clock_for_a_gpu(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("slotseg.comparison.plan.available_device", lambda device: "cuda")
    with pytest.raises(ConfigError, match="--clock processor: does not count what a GPU does"):
        make_plan([tiny_config], str(tmp_path), minutes=1.0, clock="processor")
    assert make_plan([tiny_config], str(tmp_path), minutes=1.0).jobs


def test_a_new_option_is_no_new_run_but_a_new_default_is_refused(
    tiny_config, tmp_path, monkeypatch
):
    """As after an update of the package between two sittings."""

    def folder():
        return make_plan([tiny_config], str(tmp_path), minutes=1.0).jobs[0].folder

    before = folder()
    written = Path(before, "config.yaml")
    written.parent.mkdir(parents=True)
    written.write_text(get_cfg(tiny_config, ["SOLVER.MAX_ITER", "7"]).dump())

    def updated(*arguments, **changes):
        cfg = get_cfg(*arguments)
        cfg.NEW_OPTION = 1
        cfg.merge_from_list([part for pair in changes.items() for part in pair])
        return cfg

    for module in ("plan", "identity"):
        monkeypatch.setattr(f"slotseg.comparison.{module}.get_cfg", updated)
    assert folder() == before
    for module in ("plan", "identity"):
        monkeypatch.setattr(
            f"slotseg.comparison.{module}.get_cfg", lambda *a: updated(*a, VIS_PERIOD=3)
        )
    with pytest.raises(ConfigError, match="in this run VIS_PERIOD was 0 and is now 3; choose ano"):
        folder()


def test_weights_that_were_written_anew_are_another_run(tiny_config, tmp_path):
    def folder(**arguments):
        return make_plan([tiny_config], str(tmp_path), **arguments).jobs[0].folder

    weights, trained = tmp_path / "model.pth", tmp_path / "trained"
    trained.mkdir()
    in_run = {"overrides": ["OUTPUT_DIR", str(trained)]}
    weights.write_bytes(b"first")
    (trained / "last_checkpoint").write_text("model_0000001.pth")
    before = [folder(weights=[str(weights)]), folder(**in_run)]
    assert before == [folder(weights=[str(weights)]), folder(**in_run)]
    weights.write_bytes(b"second")
    (trained / "last_checkpoint").write_text("model_0000010.pth")
    after = [folder(weights=[str(weights)]), folder(**in_run)]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_jobs_survive_their_file(tiny_config, tmp_path):
    plan = make_plan([tiny_config], str(tmp_path), seeds=[3], overrides=["SOLVER.BASE_LR", "0.5"])
    (job,) = plan.jobs
    assert Job.loads(job.dumps()) == job
    cfg = job.config()
    assert (3, 0.5, job.folder) == (cfg.SEED, cfg.SOLVER.BASE_LR, cfg.OUTPUT_DIR)
