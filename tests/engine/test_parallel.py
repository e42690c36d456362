"""The wrapper for several processes, here around a group of one."""

import pytest
import torch
from torch import nn

from slotseg.engine.parallel import wrap_distributed


class Slots(nn.Module):
    """Takes one map of two, and in every other step leaves its queries out."""

    has_slots = True

    def __init__(self):
        super().__init__()
        self.taken, self.left = nn.Linear(2, 2), nn.Linear(2, 2)
        self.queries = nn.Parameter(torch.ones(2))

    def forward(self, x, seeded):
        taken = self.taken(x)
        return taken.sum() if seeded else (taken * self.queries).sum()


@pytest.fixture
def process_group(tmp_path, monkeypatch):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    monkeypatch.setattr("slotseg.engine.parallel.comm.get_world_size", lambda: 2)
    yield
    torch.distributed.destroy_process_group()


def test_one_process_needs_no_wrapper():
    model = Slots()
    assert wrap_distributed(model) is model


@pytest.mark.usefixtures("process_group")
def test_parameters_without_a_gradient_do_not_stop_a_slot_model():
    model = wrap_distributed(Slots())
    for step in range(4):
        model.zero_grad()
        model(torch.ones(1, 2), seeded=step % 2 == 1).backward()
        assert model.module.taken.weight.grad.abs().sum() > 0
        assert model.module.left.weight.grad is None
