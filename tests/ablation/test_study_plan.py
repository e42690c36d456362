"""What is refused before anything runs, and what makes another run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from slotseg.ablation import launch_commands, make_study_plan, read_study
from slotseg.comparison import job as job_module
from slotseg.config import get_cfg
from slotseg.engine.defaults import default_argument_parser
from slotseg.errors import ConfigError

CURVE = {"key": "DATASETS.MAX_IMAGES", "values": [2, 4]}


def plan_of(path, tmp_path, **arguments):
    return make_study_plan(read_study(path), str(tmp_path / "out"), **{"steps": 4} | arguments)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"minutes": 1.0}, "--train-minutes and --steps exclude each other"),
        ({}, {"minutes": 0.0, "steps": None}, "--train-minutes: must be positive"),
        ({}, {"steps": 0}, "--steps: must be at least 1"),
        ({}, {"seeds": [1, 1]}, "--seeds: must be different"),
        ({}, {"evaluations": 0}, "--evaluations"),
        ({}, {"clock": "sun"}, "unknown clock 'sun'"),
        ({}, {"overrides": ["DATASETS.TEST", "()"]}, "a study needs one set"),
        ({}, {"overrides": ["DATASETS.TRAIN", "('mars',)"]}, "no data set 'mars' is registered"),
        ({"config": "none.yaml"}, {}, "none.yaml: no such config file|none.yaml.*does not exist"),
        (
            {"variants": [{"name": "a", "overrides": {"SOLVER.BASE_LRR": 1}}]},
            {},
            "study.yaml: variant 'a': unknown config key SOLVER.BASE_LRR; did you mean",
        ),
        (
            {"variants": [{"name": "a", "overrides": {"SOLVER.MAX_ITER": "many"}}]},
            {},
            "study.yaml: variant 'a': ",
        ),
        (
            {"variants": [{"name": "a"}, {"name": "b", "overrides": {"SOLVER.BASE_LR": 0.004}}]},
            {},
            "variant 'b': its overrides leave the same training as variant 'a'",
        ),
        (
            {"variants": [{"name": "a"}, {"name": "b", "overrides": {"DATASETS.TEST": ["c"]}}]},
            {},
            "variant 'b': is scored on",
        ),
        (
            {"curve": CURVE, "overrides": {"DATASETS.MAX_IMAGES": 1}},
            {},
            "variant 'plain': sets DATASETS.MAX_IMAGES, which is the curve's",
        ),
        (
            {"curve": {"key": "SOLVER.NONE", "values": [1, 2]}},
            {},
            "variant 'plain' at 1: unknown config key SOLVER.NONE",
        ),
    ],
)
def test_what_cannot_work_is_one_line(write_study_file, tmp_path, changes, arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        plan_of(write_study_file(**changes), tmp_path, **arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_processor_is_no_clock_for_a_gpu(write_study_file, tmp_path, monkeypatch):
    monkeypatch.setattr("slotseg.ablation.plan.available_device", lambda device: "cuda")
    with pytest.raises(ConfigError, match="--clock processor: does not count what a GPU does"):
        plan_of(write_study_file(), tmp_path, clock="processor")


def test_the_first_seed_of_every_variant_comes_first(write_study_file, tmp_path):
    plan = plan_of(write_study_file(curve=CURVE), tmp_path, seeds=[3, 1])
    half = len(plan.jobs) // 2
    assert [job.seed for job in plan.jobs] == [3] * half + [1] * half
    names = ["plain 2", "colours 2", "both 2", "plain 4", "colours 4", "both 4"]
    assert [job.name for job in plan.jobs[:half]] == names
    assert [job.config().DATASETS.MAX_IMAGES for job in plan.jobs[:half]] == [2] * 3 + [4] * 3


def test_what_is_said_last_counts(write_study_file, tmp_path):
    (job, *_) = plan_of(write_study_file(), tmp_path, overrides=["SOLVER.BASE_LR", "0.5"]).jobs
    assert job.config().SOLVER.BASE_LR == 0.5
    (job, *_) = plan_of(write_study_file(), tmp_path).jobs
    assert job.config().SOLVER.BASE_LR == 0.004


def test_without_a_budget_every_config_keeps_its_own(write_study_file, tmp_path):
    longer = {"name": "longer", "overrides": {"SOLVER.MAX_ITER": 200}}
    plan = plan_of(write_study_file(variants=[{"name": "a"}, longer]), tmp_path, steps=None)
    assert [job.steps for job in plan.jobs] == [100, 200]


def test_what_changes_a_result_changes_the_folder_and_a_name_does_not(write_study_file, tmp_path):
    def folder(number=1, **arguments):
        return plan_of(write_study_file(), tmp_path, **arguments).trials[number].jobs[0].folder

    settings = [{}, {"steps": 5}, {"evaluations": 2}, {"overrides": ["SOLVER.BASE_LR", "1.0"]}]
    assert len({folder(**arguments) for arguments in settings}) == len(settings)
    assert folder(command="x") == folder()
    before = folder()
    Path(before).mkdir(parents=True)
    renamed = [{"name": "a"}, {"name": "b", "overrides": {"INPUT.COLOR_JITTER.BRIGHTNESS": 0.4}}]
    plan = plan_of(write_study_file(variants=renamed), tmp_path)
    assert plan.trials[1].jobs[0].folder == before


def test_printed_commands_train_what_would_be_run(write_study_file, tmp_path, monkeypatch):
    """Parsed as the training tool does, a command gives the config that a job trains with."""
    options = {
        "SOLVER.STEPS": [50, 90],
        "INPUT.FORMAT": "BGR",
        "MODEL.WEIGHTS": "",
        "DATASETS.TRAIN": ["cityscapes_generated_train"],
        "SEMI.START": 50,
    }
    path = write_study_file(variants=[{"name": "a"}, {"name": "odd | name", "overrides": options}])
    plan = plan_of(
        path, tmp_path, seeds=[0, 7], evaluations=2, overrides=["SOLVER.AMP.ENABLED", "True"]
    )
    trained = []
    monkeypatch.setattr(job_module, "default_setup", lambda *_: None)

    def train(cfg, resume):
        trained.append(cfg)
        raise InterruptedError

    monkeypatch.setattr(job_module, "train", train)
    commands = list(launch_commands(plan, "torchrun", train_tool="/a b/train_net.py", num_gpus=2))
    assert len(commands) == len(plan.jobs) == 4
    for command, job in zip(commands, plan.jobs, strict=True):
        words = shlex.split(command)
        assert words[:5] == [
            "torchrun",
            "--standalone",
            "--nproc_per_node",
            "2",
            "/a b/train_net.py",
        ]
        args = default_argument_parser().parse_args(words[5:])
        assert args.resume and args.num_gpus == 2
        with pytest.raises(InterruptedError):
            job_module.score(job)
        printed, ran = get_cfg(args.config_file, args.opts), trained[-1].clone()
        assert printed == ran
        assert job.seed == printed.SEED
    (line, *_) = launch_commands(plan, "slurm", train_tool="/a b/train_net.py", num_gpus=2)
    mkdir, _, sbatch = line.partition(" && ")
    assert shlex.split(mkdir) == ["mkdir", "-p", plan.jobs[0].folder]
    words = shlex.split(sbatch)
    assert words[0] == "sbatch" and words[words.index("--gpus-per-node") + 1] == "2"
    assert words[-2:] == ["--wrap", commands[0]]


def test_commands_need_steps_and_a_launcher_that_is_known(write_study_file, tmp_path):
    plan = plan_of(write_study_file(), tmp_path, minutes=1.0, steps=None)
    with pytest.raises(ConfigError, match="--print-commands: how many steps .* give --steps"):
        list(launch_commands(plan, "torchrun", train_tool="t"))
    plan = plan_of(write_study_file(), tmp_path)
    with pytest.raises(ConfigError, match="unknown launcher 'rocket'"):
        list(launch_commands(plan, "rocket", train_tool="t"))
    with pytest.raises(ConfigError, match="--num-gpus"):
        list(launch_commands(plan, "slurm", train_tool="t", num_gpus=-1))
