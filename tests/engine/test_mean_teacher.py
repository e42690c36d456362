"""A teacher in a real, tiny training: exact, saved, scored, and the model that is shipped."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine.train_loop import HookBase
from torch import nn

from slotseg.data import TrainingBatch
from slotseg.engine import commands, hooks
from slotseg.engine.checkpoint import find_trained_weights, load_weights
from slotseg.engine.ema import decay_at
from slotseg.engine.hooks import MeanTeacher
from slotseg.engine.mean_teacher import Teacher
from slotseg.engine.predictor import Predictor
from slotseg.engine.rng import get_rng_state
from slotseg.engine.trainer import Trainer
from slotseg.errors import CheckpointError, ConfigError

WITH_TEACHER = ("MEAN_TEACHER.ENABLED", True, "PICTURES.IMAGES", 0, "SLOT_MONITOR.IMAGES", 2)
# Labels that a model of random weights can make, too.
SEMI = (
    *("DATASETS.LABELED_IMAGES", 4, "SEMI.IMS_PER_BATCH", 2, "SEMI.START", 2, "SEMI.RAMP", 3),
    *("PSEUDO_LABELS.MAX_UNCERTAINTY", 1.0, "PSEUDO_LABELS.MIN_CONFIDENCE_THINGS", 0.1),
)


def run(cfg, resume=False, trainer_type=Trainer):
    trainer = trainer_type(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


class Recorder(HookBase):
    """The student's weights before the first step and after every one."""

    def before_train(self):
        self.seen = [weights(self.trainer.plain_model)]

    def after_step(self):
        self.seen.append(weights(self.trainer.plain_model))


class RecordedTrainer(Trainer):
    def build_hooks(self):
        self.recorder = Recorder()
        return [self.recorder, *super().build_hooks()]


class Stopped(Exception):
    pass


class StopAt(HookBase):
    def before_step(self):
        if self.trainer.iter == 5:
            raise Stopped


class StoppedTrainer(Trainer):
    def build_hooks(self):
        return [StopAt(), *super().build_hooks()]


def test_teacher_follows_and_the_student_does_not_know(tiny_cfg):
    options = ("SOLVER.MAX_ITER", 5, "TEST.EVAL_PERIOD", 2)
    trainer = run(
        tiny_cfg(*WITH_TEACHER, *options, "MEAN_TEACHER.DECAY", 0.6), trainer_type=RecordedTrainer
    )
    first, *later = trainer.recorder.seen
    expected = {key: value.double() for key, value in first.items()}
    for step, student in enumerate(later):
        decay = decay_at(step, 0.6, 10.0)
        expected = {k: decay * v + (1 - decay) * student[k] for k, v in expected.items()}
    for key, value in trainer.teacher.state_dict().items():
        torch.testing.assert_close(value, expected[key].float(), rtol=1e-5, atol=1e-6)
    assert not equal(trainer.teacher.state_dict(), weights(trainer.plain_model))

    in_optimizer = {id(p) for g in trainer.optimizer.param_groups for p in g["params"]}
    for parameter in trainer.teacher.model.parameters():
        assert parameter.grad is None and not parameter.requires_grad
        assert id(parameter) not in in_optimizer
    assert not trainer.teacher.model.training and trainer.plain_model.training
    # Neither being followed nor the teacher's scores change the student's random numbers.
    alone = run(tiny_cfg(*options, *WITH_TEACHER[2:], output="alone"))
    assert alone.teacher is None
    assert equal(weights(trainer.plain_model), weights(alone.plain_model))


def test_teacher_is_scored_kept_and_shipped(tiny_cfg, tmp_path):
    cfg = tiny_cfg(*WITH_TEACHER, "SOLVER.MAX_ITER", 4, "MEAN_TEACHER.DECAY", 0.9)
    trainer = run(cfg)
    folder = tmp_path / "run"
    teacher, student = trainer.teacher.state_dict(), weights(trainer.plain_model)
    results = json.loads((folder / "results.json").read_text())["clevr_generated_val"]
    assert results.keys() == {"slots", "student/slots"}
    assert results["slots"]["ARI"] != results["student/slots"]["ARI"]
    logged = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert logged["student/slots/ARI"] == results["student/slots"]["ARI"]
    assert logged["teacher/decay"] == pytest.approx(4 / 13)

    final = torch.load(folder / "model_final.pth", weights_only=True)
    assert equal(final["teacher"], teacher) and equal(final["model"], student)
    best = torch.load(folder / "model_best.pth", weights_only=True)
    assert equal(best["model"], teacher) and best["weights_of"] == "teacher"
    assert best["best"]["value"] == results["slots"]["ARI"]
    assert "teacher" not in best

    for name, whose, expected in (
        *(("model_final", "auto", teacher), ("model_final", "teacher", teacher)),
        *(("model_final", "student", student), ("model_best", "auto", teacher)),
        ("model_best", "teacher", teacher),
    ):
        model = Trainer.build_model(cfg)
        load_weights(model, str(folder / f"{name}.pth"), weights_of=whose)
        assert equal(weights(model), expected), (name, whose)
    with pytest.raises(CheckpointError, match=r"model_best.pth: holds the weights of the teacher"):
        load_weights(model, str(folder / "model_best.pth"), weights_of="student")

    # The tools find a file that holds what they are asked for.
    assert find_trained_weights(str(folder)).endswith("model_best.pth")
    assert find_trained_weights(str(folder), "student").endswith("model_final.pth")
    for whose, task in (("auto", "slots"), ("student", "student/slots")):
        asked = tiny_cfg("TEST.WEIGHTS_OF", whose)
        assert commands.evaluate_weights(asked)["clevr_generated_val"]["slots"] == pytest.approx(
            results[task]
        )
        asked.MODEL.WEIGHTS = str(folder / "model_final.pth")
        expected = teacher if whose == "auto" else student
        assert equal(weights(Predictor(asked).model), expected)
        # A new training begins with the same.
        asked.OUTPUT_DIR = str(tmp_path / "next")
        again = Trainer(asked)
        again.resume_or_load(resume=False)
        assert equal(weights(again.plain_model), expected)


def test_student_can_be_left_unscored_or_be_the_one_that_is_kept(tiny_cfg, tmp_path):
    options = (*WITH_TEACHER, "SOLVER.MAX_ITER", 2)
    run(tiny_cfg(*options, "MEAN_TEACHER.EVALUATE_STUDENT", False))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["clevr_generated_val"].keys() == {"slots"}

    trainer = run(tiny_cfg(*options, "TEST.BEST_METRIC", "student/slots/ARI", output="other"))
    best = torch.load(tmp_path / "other" / "model_best.pth", weights_only=True)
    assert equal(best["model"], weights(trainer.plain_model))
    assert best["weights_of"] == "student"


def test_resumed_run_ends_with_the_same_bits(tiny_cfg, tmp_path):
    options = (*WITH_TEACHER, *SEMI, "SOLVER.AMP.ENABLED", True, "TEST.EVAL_PERIOD", 0)
    run(tiny_cfg(*options))
    with pytest.raises(Stopped):
        run(tiny_cfg(*options, output="stopped"), trainer_type=StoppedTrainer)
    resumed = run(tiny_cfg(*options, output="stopped"), resume=True)
    assert resumed.start_iter == 3
    whole, again = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        for name in ("run", "stopped")
    )
    for key in ("model", "teacher", "optimizer", "rng"):
        assert equal(whole[key], again[key]), key
    states = [saved["trainer"]["hooks"]["MeanTeacher#0"] for saved in (whole, again)]
    assert equal(*states)
    assert states[0]["updates"] == resumed.teacher.updates == 8 and states[0]["labeller"]


def test_pseudo_labels_teach_the_student(tiny_cfg, tmp_path):
    cfg = tiny_cfg(*WITH_TEACHER, *SEMI, "SOLVER.MAX_ITER", 6)
    taught = weights(run(cfg).plain_model)
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    logged = {json.loads(line)["iteration"]: json.loads(line) for line in lines}
    assert all(value > 0 for key, value in logged[5].items() if key.startswith("pseudo_loss_mask"))
    untaught = run(
        tiny_cfg(*WITH_TEACHER, *SEMI, "SOLVER.MAX_ITER", 6, "SEMI.WEIGHT", 0.0, output="other")
    )
    assert not equal(taught, weights(untaught.plain_model))


class FromTheImage(nn.Module):
    """Answers with random numbers, and says under which circumstances."""

    def forward(self, images):
        assert not self.training and not torch.is_grad_enabled()
        return [{"number": torch.rand(()), "amp": torch.is_autocast_enabled("cpu")} for _ in images]


class FakeLabeller:
    def __init__(self):
        self.seen = []

    def __call__(self, teacher, unlabeled, labeled):
        self.seen.append(labeled)
        return [
            {**item, **output} for item, output in zip(unlabeled, teacher(unlabeled), strict=True)
        ]

    def weight(self, iteration):
        return 0.0 if iteration < 3 else 0.25

    def state_dict(self):
        return {"kept": len(self.seen)}

    def load_state_dict(self, state):
        self.kept = state["kept"]


def make_hook(iteration=3, seed=0, labeller=None):
    student = FromTheImage()
    student.layer = nn.Linear(1, 1)
    model = FromTheImage()
    model.layer = nn.Linear(1, 1)
    hook = MeanTeacher(Teacher(model, student, 0.9, 0.0), labeller or FakeLabeller(), seed)
    hook.trainer = SimpleNamespace(
        iter=iteration, autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    )
    return hook


BATCH = TrainingBatch([{"image": 0}], unlabeled=[{"image": 1}, {"image": 2}])


def test_hook_labels_what_is_unlabelled_as_soon_as_it_counts():
    labeller = FakeLabeller()
    assert make_hook(2, labeller=labeller).after_draw(BATCH) is BATCH
    none = replace(BATCH, unlabeled=[])
    assert make_hook(3, labeller=labeller).after_draw(none) is none
    assert labeller.seen == []
    batch = make_hook(3, labeller=labeller).after_draw(BATCH)
    assert [item["image"] for item in batch.pseudo] == [1, 2]
    assert all(item["amp"] for item in batch.pseudo)
    assert batch.pseudo_weight == 0.25
    assert replace(batch, pseudo=[], pseudo_weight=1.0) == BATCH
    assert labeller.seen == [BATCH.labeled]


def test_labels_depend_on_seed_iteration_and_process_alone(monkeypatch):
    def drawn(hook):
        return [float(item["number"]) for item in hook.after_draw(BATCH).pseudo]

    first, again, later, other_seed = (
        make_hook(),
        make_hook(),
        make_hook(iteration=4),
        make_hook(seed=1),
    )
    numbers = drawn(first)
    torch.manual_seed(7)
    state = get_rng_state()
    assert drawn(again) == numbers
    after = get_rng_state()
    assert equal(state, after)
    assert drawn(later) != numbers and drawn(other_seed) != numbers
    monkeypatch.setattr("slotseg.engine.hooks.mean_teacher.comm.get_rank", lambda: 1)
    assert drawn(again) != numbers


def test_hook_keeps_its_state_and_that_of_the_labeller():
    hook = make_hook()
    hook.trainer.storage = SimpleNamespace(put_scalar=lambda *args, **kwargs: None)
    hook.after_draw(BATCH)
    hook.after_step()
    labeller = FakeLabeller()
    other = make_hook(labeller=labeller)
    other.load_state_dict(hook.state_dict())
    assert hook.state_dict() == {"updates": 1, "labeller": {"kept": 1}}
    assert labeller.kept == 1 and other.state_dict()["updates"] == 1
    # Where it went on from there, the student's weights are no new start.
    with torch.no_grad():
        other._teacher.model.layer.weight.fill_(5.0)
    other.before_train()
    assert float(other._teacher.model.layer.weight) == 5.0


def test_teacher_starts_from_the_weights_that_the_student_was_given(tiny_cfg, tmp_path):
    run(tiny_cfg("SOLVER.MAX_ITER", 2, "PICTURES.IMAGES", 0))
    start = str(tmp_path / "run" / "model_final.pth")
    cfg = tiny_cfg(*WITH_TEACHER, "MODEL.WEIGHTS", start, output="next")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    assert not equal(trainer.teacher.state_dict(), weights(trainer.plain_model))
    next(hook for hook in trainer._hooks if isinstance(hook, MeanTeacher)).before_train()
    given = torch.load(start, weights_only=True)["model"]
    assert equal(trainer.teacher.state_dict(), given)


def test_frozen_weights_are_there_once_in_memory_and_in_files(tiny_cfg, tmp_path):
    class Frozen(Trainer):
        @classmethod
        def build_model(cls, cfg):
            model = super().build_model(cfg)
            model.backbone.requires_grad_(False)
            return model

    trainer = Frozen(tiny_cfg(*WITH_TEACHER))
    own, other = trainer.teacher.model, trainer.plain_model
    assert all(
        a is b for a, b in zip(own.backbone.parameters(), other.backbone.parameters(), strict=True)
    )
    assert not any(
        a is b for a, b in zip(own.decoders.parameters(), other.decoders.parameters(), strict=True)
    )
    trainer.save_checkpoint("model_final")
    saved = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    shared = {
        name
        for name, tensor in saved["teacher"].items()
        if tensor.data_ptr() == saved["model"][name].data_ptr()
    }
    assert shared == {name for name in saved["model"] if name.startswith("backbone.")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("DECAY", 1.0), r"^MEAN_TEACHER.DECAY: must be at least 0 and below 1, got 1.0"),
        (("DECAY", -0.1), r"^MEAN_TEACHER.DECAY: .* got -0.1"),
        (("WARM_UP", -1.0), r"^MEAN_TEACHER.WARM_UP: must not be negative, got -1.0"),
    ],
    ids=["decay-1", "decay-negative", "warm-up-negative"],
)
def test_options_that_make_no_average(tiny_cfg, options, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(tiny_cfg(*WITH_TEACHER, f"MEAN_TEACHER.{options[0]}", options[1]))


def test_unlabelled_images_without_a_teacher_are_said_to_be_wasted(tiny_cfg, caplog):
    Trainer(tiny_cfg(*SEMI))
    assert "SEMI.IMS_PER_BATCH: unlabelled images are read, but nobody labels them" in caplog.text


def test_weights_of_nobody(tiny_cfg, tmp_path):
    cfg = tiny_cfg("SOLVER.MAX_ITER", 1, "PICTURES.IMAGES", 0)
    model = run(cfg).plain_model
    path = str(tmp_path / "run" / "model_final.pth")
    load_weights(model, path, weights_of="student")
    with pytest.raises(CheckpointError, match=r"model_final.pth: holds no teacher; it was saved"):
        load_weights(model, path, weights_of="teacher")
    with pytest.raises(ConfigError, match=r"^TEST.WEIGHTS_OF: unknown 'uncle'; choose from auto"):
        load_weights(model, path, weights_of="uncle")
    with pytest.raises(ConfigError, match=r"^TEST.WEIGHTS_OF: unknown 'uncle'"):
        commands.evaluate_weights(tiny_cfg("TEST.WEIGHTS_OF", "uncle"))


def test_a_run_without_a_teacher_cannot_get_one_in_the_middle(tiny_cfg, tmp_path):
    run(tiny_cfg("SOLVER.MAX_ITER", 2, "PICTURES.IMAGES", 0))
    with pytest.raises(CheckpointError, match=r"model_final.pth: holds no teacher, so training"):
        run(tiny_cfg(*WITH_TEACHER), resume=True)


def test_teachers_of_another_architecture(tiny_cfg, tmp_path):
    run(tiny_cfg(*WITH_TEACHER, "SOLVER.MAX_ITER", 2))
    path = tmp_path / "run" / "model_final.pth"
    data = torch.load(path, weights_only=True)
    name = next(iter(data["teacher"]))
    data["teacher"]["other"] = data["teacher"].pop(name)
    torch.save(data, path)
    trainer = Trainer(tiny_cfg(*WITH_TEACHER))
    with pytest.raises(CheckpointError, match=r"its teacher does not fit .* and 1 more differ"):
        trainer.resume_or_load(resume=True)
    with pytest.raises(CheckpointError, match=r"model_final.pth: is of another model: it lacks 1"):
        load_weights(trainer.plain_model, str(path))


def test_hooks_come_in_an_order_that_saves_what_was_done(tiny_cfg):
    kinds = [type(hook) for hook in Trainer(tiny_cfg(*WITH_TEACHER))._hooks]
    # The time of a step ends when the record's turn comes: following the student is part of it.
    order = [MeanTeacher, hooks.RunRecord, hooks.Evaluation, hooks.BestCheckpoint]
    assert [kind for kind in kinds if kind in order] == order
    assert kinds[-1] is hooks.PeriodicCheckpoint
