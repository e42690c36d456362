"""The training loop on a real, tiny model."""

import json
import math
import os
import sys

import pytest
import torch
from detectron2.engine.train_loop import HookBase
from detectron2.utils.events import EventWriter

from slotseg.engine import commands
from slotseg.engine.hooks import SlotMonitor
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer
from slotseg.errors import CheckpointError, ConfigError, DatasetError, NonFiniteLossError


def run(cfg, resume=False, trainer_type=Trainer):
    trainer = trainer_type(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def weights(trainer):
    return {key: value.clone() for key, value in trainer.plain_model.state_dict().items()}


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class StopAt(HookBase):
    """Ends the training like an error of the user's would."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise RuntimeError("stopped")


def stop_at(iteration):
    class StoppingTrainer(Trainer):
        def build_hooks(self):
            return [StopAt(iteration), *super().build_hooks()]

    return StoppingTrainer


def test_a_run_leaves_what_it_promises(tiny_cfg, tmp_path):
    trainer = run(tiny_cfg())
    folder = tmp_path / "run"
    names = set(os.listdir(folder))
    assert {"config.yaml", "run.json", "results.json", "metrics.json", "monitor.jsonl"} <= names
    assert {n for n in names if n.endswith(".pth")} == {
        *("model_0000002.pth", "model_0000005.pth", "model_final.pth", "model_best.pth"),
    }
    assert not [n for n in names if "partial" in n]
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    results = json.loads((folder / "results.json").read_text())
    assert 0 < results["clevr_generated_val"]["slots"]["images"] == 5
    record = json.loads((folder / "run.json").read_text())
    assert record["iterations"] == record["max_iterations"] == 8
    assert record["seed"] == 0 and record["finished"]
    assert 0 < record["train_seconds"] <= record["total_seconds"]
    assert {"slotseg", "torch", "detectron2", "python"} <= set(record["versions"])
    metrics = {key for line in lines(folder / "metrics.json") for key in line}
    assert {"total_loss", "lr", "grad_norm", "slots/ARI", "slot_monitor/similarity"} <= metrics
    assert [line["iteration"] for line in lines(folder / "monitor.jsonl")] == [2, 5, 7]
    assert trainer.results["clevr_generated_val"]["slots"]["ARI"] == pytest.approx(
        results["clevr_generated_val"]["slots"]["ARI"]
    )
    saved = torch.load(folder / "model_final.pth", weights_only=True)
    assert saved["iteration"] == 7 and equal(saved["model"], weights(trainer))
    assert set(saved) >= {"optimizer", "scheduler", "trainer", "rng", "config", "slotseg_version"}


@pytest.mark.parametrize("amp", [False, True])
def test_resumed_run_ends_with_the_same_bits(tiny_cfg, tmp_path, amp):
    options = ("SOLVER.AMP.ENABLED", amp)
    run(tiny_cfg(*options, output="whole"))
    with pytest.raises(RuntimeError, match="stopped"):
        run(tiny_cfg(*options, output="parts"), trainer_type=stop_at(7))
    cfg = tiny_cfg(*options, output="parts")
    # Whatever state the new process starts in.
    seed_all(12345)
    run(cfg, resume=True)
    whole, parts = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        for name in ("whole", "parts")
    )
    for key in ("model", "optimizer", "scheduler", "rng", "iteration"):
        assert equal(whole[key], parts[key]), key
    for name in ("metrics.json", "monitor.jsonl"):
        logged = [
            [line["iteration"] for line in lines(tmp_path / run_name / name)]
            for run_name in ("whole", "parts")
        ]
        assert logged[0] == logged[1]
        assert len(set(logged[1])) == len(logged[1])


def test_watching_and_scoring_do_not_change_the_weights(tiny_cfg):
    watched = run(tiny_cfg("SLOT_MONITOR.PERIOD", 1, "TEST.EVAL_PERIOD", 1, output="watched"))
    options = ("SLOT_MONITOR.IMAGES", 0, "DATASETS.TEST", ())
    alone = run(tiny_cfg(*options, output="alone"))
    assert equal(weights(watched), weights(alone))
    assert alone.results == {}


def test_the_seed_matters(tiny_cfg):
    first = run(tiny_cfg("SOLVER.MAX_ITER", 2, output="a"))
    cfg = tiny_cfg("SOLVER.MAX_ITER", 2, "SEED", 1, output="b")
    seed_all(1)
    assert not equal(weights(first), weights(run(cfg)))


def test_an_existing_run_is_not_overwritten(tiny_cfg):
    run(tiny_cfg("SOLVER.MAX_ITER", 2))
    with pytest.raises(CheckpointError, match="--resume to go on"):
        run(tiny_cfg("SOLVER.MAX_ITER", 2))


def test_old_checkpoints_are_removed(tiny_cfg, tmp_path):
    run(tiny_cfg("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINTS_KEPT", 2, "DATASETS.TEST", ()))
    kept = sorted(n for n in os.listdir(tmp_path / "run") if n.endswith(".pth"))
    assert kept == ["model_0000005.pth", "model_0000006.pth", "model_final.pth"]
    with pytest.raises(ConfigError, match=r"CHECKPOINTS_KEPT: must be at least 2"):
        Trainer(tiny_cfg("SOLVER.CHECKPOINTS_KEPT", 1))


def test_periods_in_epochs(tiny_cfg, tmp_path):
    # Ten images, four a step: three iterations an epoch.
    cfg = tiny_cfg(
        *("SOLVER.CHECKPOINT_PERIOD", 0, "SOLVER.CHECKPOINT_EPOCHS", 2, "DATASETS.TEST", ()),
    )
    run(cfg)
    assert (tmp_path / "run" / "model_0000005.pth").exists()
    assert not (tmp_path / "run" / "model_0000002.pth").exists()


def test_a_finished_run_is_left_alone_and_can_be_extended(tiny_cfg, tmp_path, monkeypatch):
    run(tiny_cfg())
    before = (tmp_path / "run" / "model_final.pth").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(commands, "Trainer", None)
        assert commands.train(tiny_cfg(), resume=True) == {}
    (tmp_path / "run" / "results.json").unlink()
    results = commands.train(tiny_cfg(), resume=True)
    assert results["clevr_generated_val"]["slots"]["images"] == 5
    assert (tmp_path / "run" / "results.json").exists()
    assert (tmp_path / "run" / "model_final.pth").stat().st_mtime_ns == before
    commands.train(tiny_cfg("SOLVER.MAX_ITER", 10), resume=True)
    saved = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert saved["iteration"] == 9


def test_changed_config_is_reported_on_resume(tiny_cfg, caplog):
    run(tiny_cfg("SOLVER.MAX_ITER", 3))
    trainer = Trainer(tiny_cfg("SOLVER.MAX_ITER", 4, "LOSSES.MASKS.WEIGHT", 2.0))
    with caplog.at_level("WARNING"):
        trainer.resume_or_load()
    assert "LOSSES.MASKS.WEIGHT was 1.0 and is now 2.0" in caplog.text


def test_missing_test_set_shows_before_the_first_step(tiny_cfg, tmp_path):
    with pytest.raises(DatasetError, match="clevr_generated"):
        run(tiny_cfg("DATASETS.TEST", ("clevr_generated_tune",)))
    assert not [n for n in os.listdir(tmp_path / "run") if n.endswith(".pth")]


def poison(iteration, value):
    """A trainer whose first loss becomes ``value`` in one iteration."""

    class PoisonedTrainer(Trainer):
        def run_step(self):
            if self.iter == iteration:
                model = self.model
                self.untouched = weights(self)

                def poisoned(batch):
                    losses = model(batch)
                    name = next(iter(losses))
                    return losses | {name: losses[name] * value}

                self.model = poisoned
            super().run_step()

    return PoisonedTrainer


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_stops_before_the_weights_and_names_the_images(tiny_cfg, tmp_path, value):
    trainer = poison(4, value)(tiny_cfg())
    trainer.resume_or_load()
    with pytest.raises(NonFiniteLossError, match="iteration 4: .*nonfinite_batch.json") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    assert equal(weights(trainer), trainer.untouched)
    report = json.loads((tmp_path / "run" / "nonfinite_batch.json").read_text())
    assert report["iteration"] == 4
    assert report["values"]["total_loss"] == str(value)
    assert len(report["file_names"]) == 4
    assert all(os.path.isfile(name) for name in report["file_names"])
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000002.pth"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["iterations"] == 4


class Remember(HookBase):
    """Two of one class, each with a state of its own."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def test_two_hooks_of_one_class_keep_their_states(tiny_cfg):
    trainer = Trainer(tiny_cfg())
    trainer.register_hooks([Remember(1), Remember(2)])
    state = trainer.state_dict()
    other = Trainer(tiny_cfg())
    hooks = [Remember(0), Remember(0)]
    other.register_hooks(hooks)
    other.load_state_dict(state)
    assert [hook.value for hook in hooks] == [1, 2]


def test_best_checkpoint_survives_a_resume(tiny_cfg, tmp_path):
    """A run that goes on does not replace a better model by its first one."""

    def scored(score):
        class ScoredTrainer(Trainer):
            @classmethod
            def test(cls, cfg, model, evaluators=None):
                return {"clevr_generated_val": {"slots": {"ARI": score}}}

        return ScoredTrainer

    best = tmp_path / "run" / "model_best.pth"
    run(tiny_cfg("SOLVER.MAX_ITER", 3), trainer_type=scored(0.5))
    assert torch.load(best, weights_only=True)["best"] == {"metric": "slots/ARI", "value": 0.5}
    run(tiny_cfg("SOLVER.MAX_ITER", 5), resume=True, trainer_type=scored(0.4))
    assert torch.load(best, weights_only=True)["iteration"] == 2
    run(tiny_cfg("SOLVER.MAX_ITER", 6), resume=True, trainer_type=scored(0.6))
    saved = torch.load(best, weights_only=True)
    assert saved["iteration"] == 5 and saved["best"]["value"] == 0.6
    run(tiny_cfg("SOLVER.MAX_ITER", 7), resume=True, trainer_type=scored(math.nan))
    assert torch.load(best, weights_only=True)["iteration"] == 5


def test_unknown_best_metric_is_said_and_does_not_end_the_run(tiny_cfg, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        run(tiny_cfg("TEST.BEST_METRIC", "slots/PQ", "SOLVER.MAX_ITER", 1))
    assert "TEST.BEST_METRIC: no score 'slots/PQ'" in caplog.text and "slots/ARI" in caplog.text
    assert not (tmp_path / "run" / "model_best.pth").exists()


def test_evaluation_does_not_depend_on_what_was_drawn_before(tiny_cfg):
    cfg = tiny_cfg()
    model = Trainer.build_model(cfg)
    seed_all(1)
    first = Trainer.test(cfg, model)
    seed_all(2)
    assert Trainer.test(cfg, model) == first
    assert model.training


def test_unknown_evaluator(tiny_cfg):
    with pytest.raises(ConfigError, match="coco_2017_val has the evaluator_type 'coco'"):
        Trainer.build_evaluator(tiny_cfg(), "coco_2017_val")


def test_monitor_says_that_slots_collapsed(tiny_cfg, tmp_path, caplog):
    cfg = tiny_cfg("SLOT_MONITOR.SIMILARITY_ERROR", -1.0, "SLOT_MONITOR.SIMILARITY_WARNING", -1.0)
    with caplog.at_level("ERROR"):
        run(cfg)
    looks = lines(tmp_path / "run" / "monitor.jsonl")
    assert {look["verdict"] for look in looks} == {"collapsed"}
    assert "raise LOSSES.DIVERSITY.WEIGHT" in looks[0]["message"]
    assert set(looks[0]["grad_norms"]) == {"backbone", "slots", "decoders"}
    assert all(norm > 0 for norm in looks[0]["grad_norms"].values())
    assert "Slot monitor: the slots have become alike" in caplog.text


def test_monitor_waits_for_the_warm_up(tiny_cfg, tmp_path, caplog):
    cfg = tiny_cfg("SLOT_MONITOR.SIMILARITY_ERROR", -1.0, "SOLVER.WARMUP_ITERS", 4)
    with caplog.at_level("WARNING"):
        run(cfg)
    verdicts = [look["verdict"] for look in lines(tmp_path / "run" / "monitor.jsonl")]
    assert verdicts == ["warming up", "collapsed", "collapsed"]


def test_monitor_switches_itself_off_for_models_without_slots(tiny_cfg, tmp_path, caplog):
    class Slotless(Trainer):
        @classmethod
        def build_model(cls, cfg):
            model = super().build_model(cfg)
            segment = model.segment
            model.segment = lambda *args: [
                {"panoptic_seg": output["panoptic_seg"]} for output in segment(*args)
            ]
            return model

    with caplog.at_level("INFO"):
        run(tiny_cfg(), trainer_type=Slotless)
    assert caplog.text.count("the slot monitor is off") == 1
    assert not (tmp_path / "run" / "monitor.jsonl").exists()


class Recorder(EventWriter):
    def __init__(self, writes):
        self.writes = writes

    def write(self):
        from detectron2.utils.events import get_event_storage

        self.writes.append(get_event_storage().iter)


def test_curves_are_written_before_every_checkpoint(tiny_cfg):
    writes = []

    class RecordingTrainer(Trainer):
        def build_writers(self):
            return [Recorder(writes)]

    run(tiny_cfg(), trainer_type=RecordingTrainer)
    assert writes == [2, 5, 7]


def test_monitor_looks_at_as_many_images_as_asked(tiny_cfg):
    trainer = run(tiny_cfg("SLOT_MONITOR.IMAGES", 3, "TEST.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 1))
    (monitor,) = [hook for hook in trainer._hooks if isinstance(hook, SlotMonitor)]
    assert [len(batch) for batch in monitor._probe] == [2, 1]


def test_a_terminal_gets_a_bar_in_place_of_lines(tiny_cfg, monkeypatch, capsys, caplog):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level("INFO"):
        run(tiny_cfg())
    err = capsys.readouterr().err
    assert "training: 100%" in err and "8/8" in err
    assert "loss=" in err and "lr=" in err
    assert "eta: " not in caplog.text


def test_tensorboard_shows_a_resumed_run_once(tiny_cfg, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Written at 2 and 5, where checkpoints are, and at 7.
    with pytest.raises(RuntimeError, match="stopped"):
        run(tiny_cfg(), trainer_type=stop_at(7))
    (tmp_path / "run" / "model_0000005.pth").unlink()
    run(tiny_cfg(), resume=True)
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("total_loss")] == [2, 5, 7]


def test_frozen_parts_stay_and_do_not_disturb(tiny_cfg):
    class FrozenBackbone(Trainer):
        @classmethod
        def build_model(cls, cfg):
            model = super().build_model(cfg)
            model.backbone.requires_grad_(False)
            return model

    trainer = FrozenBackbone(tiny_cfg())
    before = weights(trainer)
    trainer.resume_or_load()
    trainer.train()
    after = weights(trainer)
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert moved and not [key for key in moved if key.startswith("backbone.")]
