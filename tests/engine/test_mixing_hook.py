"""Mixing in a training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.engine.train_loop import HookBase

from slotseg.data import TrainingBatch
from slotseg.engine import hooks
from slotseg.engine.trainer import Trainer

MIXED = (
    *("MIXING.CUTMIX.PROBABILITY", 0.8, "MIXING.CUTMIX.RAMP", 4, "MIXING.CUTMIX.END", -1),
    *("MIXING.MOSAIC.PROBABILITY", 0.5, "MIXING.MOSAIC.START", 2),
)


class Watch(HookBase):
    """Notes what the hooks before it made of every batch, and may end the run."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.seen = {}

    def after_draw(self, batch: TrainingBatch) -> TrainingBatch:
        if self.trainer.iter == self.stop_at:
            raise RuntimeError("stopped")
        self.seen[self.trainer.iter] = batch.labeled
        self.pseudo = batch.pseudo
        return batch


def with_watch(watch):
    class WatchedTrainer(Trainer):
        def build_hooks(self):
            built = super().build_hooks()
            place = [type(hook) for hook in built].index(hooks.SlotMonitor)
            return [*built[:place], watch, *built[place:]]

    return WatchedTrainer


def train(cfg, resume=False, stop_at=None):
    watch = Watch(stop_at)
    trainer = with_watch(watch)(cfg)
    trainer.resume_or_load(resume)
    if stop_at is None:
        trainer.train()
    else:
        with pytest.raises(RuntimeError, match="stopped"):
            trainer.train()
    return trainer, watch.seen


def test_off_means_no_hook(tiny_cfg):
    trainer = Trainer(tiny_cfg())
    assert not any(isinstance(hook, hooks.Mixing) for hook in trainer._hooks)


def test_a_training_that_mixes_goes_on_where_it_was_stopped(tiny_cfg, tmp_path):
    whole, seen = train(tiny_cfg(*MIXED, output="whole"))
    train(tiny_cfg(*MIXED, output="stopped"), stop_at=5)
    resumed, seen_again = train(tiny_cfg(*MIXED, output="stopped"), resume=True)

    assert sorted(seen_again) == [3, 4, 5, 6, 7]
    for iteration, batch in seen_again.items():
        for one, other in zip(batch, seen[iteration], strict=True):
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["segment_map"], other["segment_map"])
    weights, resumed_weights = (t.plain_model.state_dict() for t in (whole, resumed))
    assert all(torch.equal(weights[key], resumed_weights[key]) for key in weights)

    # Nothing at first, then more and more; and nothing at the end but mosaics.
    mixed = [sum("mixed_with" in sample for sample in seen[i]) for i in range(8)]
    assert mixed[0] == 0 and max(mixed[1:7]) >= 2
    logged = [json.loads(line) for line in (tmp_path / "whole" / "metrics.json").open()]
    shares = {line["iteration"]: line for line in logged if "mixing/cutmix" in line}
    assert shares[7]["mixing/cutmix"] == 0.0 and shares[7]["mixing/mosaic"] == 0.5
    expected = np.clip(np.arange(8) / 4, 0, 1) * 0.8
    assert all(shares[i]["mixing/cutmix"] == expected[i] for i in shares if i < 7)
    assert len(shares) > 1


def test_pseudo_labelled_images_are_mixed_with_their_confidence(tiny_cfg):
    cfg = tiny_cfg(
        *("MEAN_TEACHER.ENABLED", True, "DATASETS.LABELED_IMAGES", 4, "SEMI.IMS_PER_BATCH", 4),
        *("SEMI.START", 0, "SEMI.RAMP", 0, "PSEUDO_LABELS.UNCERTAINTY", "none"),
        *("PSEUDO_LABELS.MIN_CONFIDENCE_THINGS", 0.0, "PSEUDO_LABELS.MIN_AREA", 1),
        *("MIXING.CUTMIX.PROBABILITY", 1.0, "MIXING.LABELED", False, "MIXING.MIN_AREA", 1),
        *("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 0, "DATASETS.TEST", ()),
    )
    watch = Watch()
    with_watch(watch)(cfg).train()
    assert len(watch.pseudo) == 4
    assert not any("mixed_with" in sample for sample in watch.seen[1])
    mixed = [sample for sample in watch.pseudo if "mixed_with" in sample]
    assert len(mixed) >= 3
    for sample in mixed:
        confidence = sample["segment_confidence"]
        assert len(confidence) == len(sample["segment_is_object"])
        assert 0 < float(confidence.max()) <= 1
        assert int(sample["segment_map"].max()) < len(confidence)


def test_processes_mix_differently(tiny_cfg, monkeypatch):
    trainer = Trainer(tiny_cfg(*MIXED))
    hook = next(hook for hook in trainer._hooks if isinstance(hook, hooks.Mixing))
    assert [type(h) for h in trainer._hooks].index(hooks.Mixing) < [
        type(h) for h in trainer._hooks
    ].index(hooks.SlotMonitor)
    asked = []
    monkeypatch.setattr(hook, "_mixing", Recorder(asked))
    monkeypatch.setattr("slotseg.engine.hooks.mixing.comm.get_rank", lambda: 3)
    trainer.iter, trainer.storage = 5, Storage()
    hook.after_draw(TrainingBatch([]))
    assert asked == [(5, 3)]


class Recorder:
    """In the place of a :class:`BatchMixing`."""

    def __init__(self, asked):
        self.asked = asked

    def probabilities(self, iteration):
        return {}

    def __call__(self, batch, iteration, rank):
        self.asked.append((iteration, rank))
        return batch


class Storage:
    """Of no scalars."""

    def put_scalar(self, *_, **__):
        raise AssertionError("nothing to log")
