"""The moving average of weights against its closed form, and what becomes of buffers."""

import multiprocessing

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from slotseg.engine.ema import WeightAverage, decay_at


class Everything(nn.Module):
    """One tensor of every kind."""

    def __init__(self, width=3):
        super().__init__()
        self.trained = nn.Linear(width, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.tied = self.trained
        self.norm = nn.BatchNorm2d(2)
        self.constant_norm = FrozenBatchNorm2d(2)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("unsaved", torch.zeros(1), persistent=False)

    def forward(self, x):
        return self.norm(self.trained(x)[:, :, None, None]).square().mean()


def average_of(source, **kwargs):
    torch.manual_seed(1)
    model = type(source)(**kwargs).eval()
    return model, WeightAverage(model, source)


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30),
    decay=st.floats(0, 0.9995),
    warm_up=st.sampled_from([0.0, 1.0, 2.0, 10.0, 33.5]),
)
def test_average_has_its_closed_form(values, decay, warm_up):
    source, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, values[0])
    ema = WeightAverage(average, source)
    ema.copy()
    for step, value in enumerate(values):
        nn.init.constant_(source.weight, value)
        ema.update(decay_at(step, decay, warm_up))
    # Value n counts (1 - d_n) times all the later decays; what was there first, all decays.
    decays = np.array([decay_at(n, decay, warm_up) for n in range(len(values))])
    later = np.append(np.cumprod(decays[::-1])[::-1], 1.0)
    shares = np.append(later[0], (1.0 - decays) * later[1:])
    assert np.isclose(shares.sum(), 1.0)
    expected = float(shares @ np.array([values[0], *values]))
    assert float(average.weight) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_decay_warms_up():
    warm = [decay_at(n, 0.999, 10.0) for n in range(20000)]
    assert warm[0] == pytest.approx(0.1)
    assert warm == sorted(warm) and max(warm) == 0.999
    # Where the rule says that it is reached.
    reached = (0.999 * 10 - 1) / (1 - 0.999)
    assert warm[int(reached) - 1] < 0.999 == warm[int(reached) + 1]
    for none in (0.0, 1.0):
        assert {decay_at(n, 0.9, none) for n in range(5)} == {0.9}


def test_a_warm_up_of_two_is_the_plain_mean():
    source, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, 4.0)
    ema = WeightAverage(average, source)
    ema.copy()
    for step, value in enumerate([1.0, 7.0, 0.0]):
        nn.init.constant_(source.weight, value)
        ema.update(decay_at(step, 0.999, 2.0))
    assert float(average.weight) == pytest.approx((4 + 1 + 7 + 0) / 4)


def test_every_tensor_gets_what_it_needs():
    source = Everything()
    average, ema = average_of(source)
    ema.copy()
    own, other = average.state_dict(), source.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in other)

    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    with torch.no_grad():
        for tensor in source.parameters():
            if tensor.requires_grad:
                tensor += 1.0
    source.norm.running_mean += 2.0
    source.norm.running_var += 4.0
    source.norm.num_batches_tracked += 5
    source.steps += 7
    source.unsaved += 3.0
    ema.update(0.75)
    after = average.state_dict()
    for name in ("trained.weight", "trained.bias", "norm.weight"):
        torch.testing.assert_close(after[name], before[name] + 0.25)
    assert average.tied.weight is average.trained.weight
    torch.testing.assert_close(after["norm.running_mean"], before["norm.running_mean"] + 0.5)
    torch.testing.assert_close(after["norm.running_var"], before["norm.running_var"] + 1.0)
    assert int(after["norm.num_batches_tracked"]) == 5 and int(after["steps"]) == 7
    # An average of infinities would be none.
    assert after["mask"].tolist() == [0.0, float("-inf")]
    assert average.unsaved.tolist() == [3.0]


def test_constants_are_shared_and_trained_weights_are_not():
    source = Everything()
    average, _ = average_of(source)
    own, other = (
        {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
        for model in (average, source)
    )
    shared = {name for name in own if own[name] == other[name]}
    assert shared == {
        *("frozen.weight", "frozen.bias"),
        *(f"constant_norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
    }


def test_half_of_the_bits_do_not_round_small_steps_away():
    source = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    average = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    ema = WeightAverage(average, source)
    nn.init.constant_(source.weight, 1.0)
    ema.copy()
    nn.init.constant_(source.weight, 2.0)
    for _ in range(100):
        ema.update(0.999)
    assert average.weight.dtype == torch.float32
    assert float(average.weight) == pytest.approx(2.0 - 0.999**100, rel=1e-5)


def test_gradients_do_not_reach_the_average():
    source = Everything()
    average, ema = average_of(source)
    ema.copy()
    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    source.trained(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD([p for p in source.parameters() if p.requires_grad], 1.0).step()
    ema.update(1.0 - 2**-20)
    for name in ("trained.weight", "trained.bias"):
        parameter = average.get_parameter(name)
        assert parameter.grad is None and not parameter.requires_grad
        torch.testing.assert_close(parameter, before[name])
        assert not torch.equal(source.get_parameter(name), before[name])


def one_process_of_two(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2
    )
    # As in a training: processes begin with weights of their own, the wrapper sends those of the
    # first; batch statistics are each process's own.
    torch.manual_seed(rank)
    source = Everything()
    wrapped = nn.parallel.DistributedDataParallel(source)
    average, ema = average_of(source)
    ema.copy()
    torch.manual_seed(10 + rank)
    for step in range(3):
        wrapped(torch.randn(2, 3)).backward()
        with torch.no_grad():
            source.trained.weight -= source.trained.weight.grad
        ema.update(decay_at(step, 0.9, 10.0))
    torch.save((average.state_dict(), source.norm.running_mean), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_same_average(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=one_process_of_two, args=(rank, str(tmp_path))) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    (first, statistics), (second, others) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)
    )
    assert not torch.equal(statistics, others)
    assert first["norm.running_mean"].abs().sum() > 0
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_models_of_different_architectures():
    with pytest.raises(ValueError, match=r"different architectures: tied.weight, trained.weight$"):
        average_of(Everything(), width=4)
