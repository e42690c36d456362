"""A step over labelled and pseudo-labelled images, on one process and on two."""

import multiprocessing
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine.train_loop import HookBase
from detectron2.utils.events import EventStorage
from torch import nn

from slotseg.data import TrainingBatch
from slotseg.engine.parallel import wrap_distributed
from slotseg.engine.trainer import Trainer
from slotseg.losses.training_log import log_scalar


class MeanLoss(nn.Module):
    """Two losses, each a mean over images; pseudo-labelled ones leave a parameter out."""

    has_slots = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.labelled_only = nn.Parameter(torch.tensor(3.0))

    def forward(self, images):
        x = torch.stack([image["image"] for image in images])
        product = x @ self.weight
        pseudo = any("segment_confidence" in image for image in images)
        log_scalar("images", len(images))
        return {
            "square": product.square().mean(),
            "linear": product.mean() * (1 if pseudo else self.labelled_only),
        }


def images(first, count, **extra):
    generator = torch.Generator().manual_seed(0)
    all_images = torch.randn(16, 2, generator=generator)
    return [{"image": image, **extra} for image in all_images[first : first + count]]


def accumulate(model, batch, storage=None):
    """Scalars of the trainer's step; gradients are left in ``model``."""
    trainer = SimpleNamespace(
        model=model,
        autocast=nullcontext,
        grad_scaler=torch.amp.GradScaler("cpu", enabled=False),
        storage=storage or EventStorage(),
    )
    with trainer.storage:
        return Trainer.accumulate_gradients(trainer, batch)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_gradients_are_the_weighted_sum_of_the_parts():
    labelled, pseudo = images(0, 4), images(4, 3, segment_confidence=None)
    model = MeanLoss()
    scalars = accumulate(model, TrainingBatch(labelled, pseudo=pseudo, pseudo_weight=0.3))

    parts = [MeanLoss()(part) for part in (labelled, pseudo)]
    assert scalars["square"] == parts[0]["square"]
    assert scalars["pseudo_linear"] == parts[1]["linear"]
    assert not any(value.requires_grad for value in scalars.values())
    whole = MeanLoss()
    total = sum(whole(labelled).values()) + 0.3 * sum(whole(pseudo).values())
    total.backward()
    assert scalars["total_loss"] == pytest.approx(total.item(), rel=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, whole.get_parameter(name).grad)


def test_what_losses_log_of_the_two_parts_is_told_apart():
    storage = EventStorage()
    accumulate(MeanLoss(), TrainingBatch(images(0, 4), pseudo=images(4, 3)), storage)
    logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged == {"images": 4, "pseudo/images": 3}
    storage.put_scalar("afterwards", 1.0)
    assert "afterwards" in storage.latest()


def test_without_pseudo_labels_nothing_is_added():
    scalars = accumulate(MeanLoss(), TrainingBatch(images(0, 4), unlabeled=images(4, 4)))
    assert scalars.keys() == {"square", "linear", "total_loss"}


def one_process_of_two(rank, folder, pseudo):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2
    )
    model = MeanLoss()
    wrapped = wrap_distributed(model)
    found = []
    for _ in range(2):
        model.zero_grad()
        accumulate(wrapped, batch_of(2 * rank, 2, pseudo))
        found.append(gradients(model))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def batch_of(first, count, pseudo):
    """The same images whether one process sees them or two see one half each."""
    return TrainingBatch(
        images(first, count),
        pseudo=images(4 + first, count, segment_confidence=None) if pseudo else [],
        pseudo_weight=0.5,
    )


@pytest.mark.parametrize("pseudo", [False, True])
def test_two_processes_have_the_gradients_of_one(tmp_path, pseudo):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=one_process_of_two, args=(rank, str(tmp_path), pseudo))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0

    alone = MeanLoss()
    accumulate(alone, batch_of(0, 4, pseudo))
    for rank in range(2):
        for found in torch.load(tmp_path / f"{rank}.pt", weights_only=True):
            for name, gradient in gradients(alone).items():
                torch.testing.assert_close(found[name], gradient)


class Adds(HookBase):
    """Notes that it was there."""

    def __init__(self, name):
        self.name = name

    def after_draw(self, batch):
        return TrainingBatch([*batch.labeled, self.name])


def test_hooks_change_the_batch_one_after_the_other(tiny_cfg):
    trainer = Trainer(tiny_cfg())
    trainer.register_hooks([Adds("first"), HookBase(), Adds("second")])
    assert trainer.after_draw(TrainingBatch(["drawn"])).labeled == ["drawn", "first", "second"]
