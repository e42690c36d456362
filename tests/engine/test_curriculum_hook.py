"""Easy images first while a model trains: what is measured, logged, kept and gone on with."""

import csv
import json
import logging

import numpy as np
import pytest
import torch
from torch import nn

from slotseg.data import build_survey_loader, training_images
from slotseg.data.curriculum import Rankings
from slotseg.engine import Trainer
from slotseg.engine.hooks import Curriculum
from slotseg.engine.image_losses import hardest_by_loss, measure_image_losses
from slotseg.engine.rng import forked_rng, get_rng_state
from slotseg.errors import ConfigError

# 10 images: the round of all of them takes 2.5 iterations, and losses are measured in its middle.
BY_LOSS = (
    *("CURRICULUM.DIFFICULTY", "loss", "CURRICULUM.PERIOD", "2", "CURRICULUM.END_ITER", "7"),
    *("CURRICULUM.START_SHARE", "0.4", "SLOT_MONITOR.IMAGES", "0", "PICTURES.IMAGES", "0"),
    *("TEST.EVAL_PERIOD", "100", "DATASETS.TEST", "()"),
)


class Recorder(Trainer):
    """Remembers which images each iteration saw, and can stop like a killed run does."""

    stop_at = None

    def run_step(self):
        if self.iter == self.stop_at:
            raise KeyboardInterrupt
        super().run_step()

    def after_draw(self, batch):
        self.__dict__.setdefault("seen", {})[self.iter] = [x["file_name"] for x in batch.labeled]
        return super().after_draw(batch)


def train(cfg, *, resume=False, stop_at=None):
    trainer = Recorder(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.stop_at = stop_at
    if stop_at is None:
        trainer.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    return trainer


def curriculum_of(trainer):
    return next(hook for hook in trainer._hooks if isinstance(hook, Curriculum))


def metrics(cfg):
    with open(f"{cfg.OUTPUT_DIR}/metrics.json") as file:
        return [json.loads(line) for line in file]


def test_easy_images_come_first_and_the_rest_follows(tiny_cfg):
    cfg = tiny_cfg(
        *("CURRICULUM.DIFFICULTY", "segments", "CURRICULUM.START_SHARE", "0.4"),
        *("CURRICULUM.END_ITER", "4", "TEST.EVAL_PERIOD", "100", "DATASETS.TEST", "()"),
    )
    trainer = train(cfg)
    objects = {entry["file_name"]: entry["num_objects"] for entry in training_images(cfg)}
    limit = sorted(objects.values())[3]
    assert len(set(trainer.seen[0])) == 4
    assert max(objects[name] for name in trainer.seen[0]) <= limit < max(objects.values())
    assert {name for names in trainer.seen.values() for name in names} == set(objects)

    with open(f"{cfg.OUTPUT_DIR}/image_difficulty.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["file_name"]: float(row["difficulty"]) - 1 for row in rows} == objects
    listed = [float(row["difficulty"]) for row in rows]
    assert listed == sorted(listed, reverse=True)
    assert curriculum_of(trainer).hardest(1)[0] == (rows[0]["file_name"], listed[0])

    line = metrics(cfg)[-1]
    assert line["curriculum/share"] == 1.0
    drawn = [np.mean([objects[n] + 1 for n in names]) for names in trainer.seen.values()]
    # The writer takes the median over its window.
    assert min(drawn) <= line["curriculum/difficulty"] <= max(drawn)


def test_losses_order_what_is_drawn_after_they_are_measured(tiny_cfg):
    trainer = train(tiny_cfg(*BY_LOSS))
    order = curriculum_of(trainer)._order
    rankings = {r.since: r for r in order.rankings._rankings}
    # Of iteration 2 it is forgotten: nobody follows it any more. At 7 all are in for good.
    assert sorted(rankings) == [4, 6]
    names = [entry["file_name"] for entry in training_images(trainer.cfg)]
    # Until the first measurement there is no order: iterations 0 to 2.5 are one round of all.
    first_round = [name for t in range(3) for name in trainer.seen[t]][:10]
    assert sorted(first_round) == sorted(names)
    share = order.num_images_in(5)
    began = order.round_began(5)
    assert began == 4 and share < 10
    easiest = {names[i] for i in rankings[4].easiest_first[:share]}
    assert set(trainer.seen[5]) <= easiest


def test_a_resumed_run_draws_and_learns_the_same(tiny_cfg):
    whole = train(tiny_cfg(*BY_LOSS, output="whole"))
    # Checkpoints are after iterations 2 and 5; 4 and 6 measure.
    cfg = tiny_cfg(*BY_LOSS, output="stopped")
    train(cfg, stop_at=5)
    worker = tiny_cfg(*BY_LOSS, "DATALOADER.NUM_WORKERS", "1", output="stopped")
    second = train(worker, resume=True, stop_at=7)
    third = train(cfg, resume=True)
    assert sorted(second.seen) == [3, 4, 5, 6] and sorted(third.seen) == [6, 7]
    assert {**second.seen, **third.seen} == {t: whole.seen[t] for t in range(3, 8)}
    for key, value in whole.plain_model.state_dict().items():
        assert torch.equal(value, third.plain_model.state_dict()[key]), key
    assert np.array_equal(
        curriculum_of(whole)._order.rankings.latest, curriculum_of(third)._order.rankings.latest
    )


@pytest.mark.parametrize(("period", "told"), [(6, False), (7, True)])
def test_losses_that_come_too_late_are_told(tiny_cfg, caplog, period, told):
    with caplog.at_level(logging.WARNING, logger="slotseg.engine.hooks.curriculum"):
        Curriculum(tiny_cfg(*BY_LOSS), period)
    assert (
        "measured every 7 iterations, but all images are in from iteration 7" in caplog.text
    ) is told


def test_losses_of_another_set_are_measured_again(tiny_cfg, caplog):
    known = Rankings(10, seed=0)
    known.add(2, np.arange(10.0))
    trainer = Recorder(tiny_cfg(*BY_LOSS, "DATASETS.MAX_IMAGES", "8"))
    curriculum_of(trainer).load_state_dict(known.state_dict())
    trainer.stop_at = 0
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert "knows the losses of 10 images, now there are 8" in caplog.text
    assert curriculum_of(trainer).hardest() == [] and curriculum_of(trainer).state_dict() == {}


class Counting(nn.Module):
    """The number of objects as its loss, after everything that could leave a trace."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.norm = nn.BatchNorm1d(1)
        self.frozen = nn.Dropout()
        self.frozen.eval()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch):
        (image,) = batch
        assert self.training and not self.norm.training
        self.seen += 1
        self.norm(torch.ones(1, 1))
        objects = image["segment_is_object"].sum()
        noise = torch.rand(()) * 1e-3
        return {"objects": self.weight + objects, "noise": noise}


def test_measuring_leaves_no_trace(tiny_cfg):
    cfg = tiny_cfg()
    model = Counting()
    model.train()
    model.frozen.eval()
    before = get_rng_state()["torch"]
    losses = measure_image_losses(cfg, model, iteration=3)
    images = training_images(cfg)
    noise = losses - [entry["num_objects"] for entry in images]
    # The same random numbers for every image.
    assert losses.dtype == np.float64 and noise == pytest.approx(noise[0], abs=1e-6)
    assert torch.equal(before, get_rng_state()["torch"])
    assert model.seen == 0 and model.norm.num_batches_tracked == 0
    assert model.training and model.norm.training and not model.frozen.training
    worst = hardest_by_loss(cfg, model, 2)
    assert len(worst) == 2
    most = max(entry["num_objects"] for entry in images)
    assert worst[0].difficulty == pytest.approx(most + noise[0])


def test_processes_share_out_the_images(tiny_cfg, monkeypatch):
    cfg, model = tiny_cfg(), Counting()
    whole = measure_image_losses(cfg, model)
    parts = []
    monkeypatch.setattr("slotseg.data.loader.comm.get_world_size", lambda: 3)
    monkeypatch.setattr("slotseg.engine.image_losses.comm.all_gather", lambda own: [own])
    for rank in range(3):
        monkeypatch.setattr("slotseg.data.loader.comm.get_rank", lambda rank=rank: rank)
        parts.append(measure_image_losses(cfg, model))
    assert [len(part) for part in parts] == [3, 3, 4]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_loss_that_is_not_finite_makes_the_hardest_image(tiny_cfg):
    class Broken(nn.Linear):
        def forward(self, batch):
            return {"loss": torch.tensor(float("nan") if batch[0]["file_name"] == bad else 1.0)}

    cfg = tiny_cfg()
    bad = training_images(cfg)[3]["file_name"]
    assert hardest_by_loss(cfg, Broken(1, 1), 1) == [(bad, np.inf)]


def test_the_loss_is_that_of_the_training(tiny_cfg):
    cfg = tiny_cfg()
    trainer = Recorder(cfg)
    model = trainer.plain_model
    model.train()
    losses = measure_image_losses(cfg, model)
    assert losses.shape == (10,) and losses.std() > 0
    image = next(iter(build_survey_loader(cfg)))
    with forked_rng(cfg.SEED):
        expected = sum(model(image).values())
    assert losses[0] == pytest.approx(float(expected.detach()), rel=1e-6)


def test_it_has_to_be_possible(tiny_cfg):
    with pytest.raises(ConfigError, match="CURRICULUM.PERIOD"):
        Trainer(tiny_cfg("CURRICULUM.DIFFICULTY", "loss", "CURRICULUM.EPOCHS", "0"))

    class Own(Trainer):
        @classmethod
        def build_train_loader(cls, cfg, start_iter=0):
            return list(range(8))

    trainer = Own(tiny_cfg("CURRICULUM.DIFFICULTY", "segments", "DATASETS.TEST", "()"))
    with pytest.raises(ConfigError, match="a loader of its own"):
        trainer.train()


def test_off_means_off(tiny_cfg):
    assert not any(isinstance(hook, Curriculum) for hook in Trainer(tiny_cfg())._hooks)
