"""Checkpoints: safe to read, safe to write, clear about what is wrong."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file as save_safetensors
from torch import nn

from slotseg.engine import checkpoint_files
from slotseg.engine.checkpoint import SlotSegCheckpointer, find_trained_weights, load_weights
from slotseg.errors import CheckpointError


class Counter:
    """Something with a state."""

    def __init__(self, value=0):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def model(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))


def filled(value, width=3):
    made = model(width)
    for parameter in made.parameters():
        nn.init.constant_(parameter, value)
    return made


def run_folder(folder, iterations=(9, 19)):
    """A folder with the checkpoints of these iterations; weights are the iteration."""
    for iteration in iterations:
        saver = SlotSegCheckpointer(filled(iteration), str(folder), counter=Counter(iteration))
        saver.save(f"model_{iteration:07d}", iteration=iteration)
    return folder


def value_of(module):
    return module[0].weight[0, 0].item()


def truncate(path, keep=0.6):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * keep)])


def flip_a_bit(path):
    content = bytearray(Path(path).read_bytes())
    position = content.find(filled(19)[0].weight.detach().numpy().tobytes())
    assert position > 0
    content[position] ^= 1
    Path(path).write_bytes(content)


def test_round_trip(tmp_path):
    run_folder(tmp_path)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000019.pth"
    counter = Counter()
    loader = SlotSegCheckpointer(model(), str(tmp_path), counter=counter)
    assert loader.resume_or_load("unused.pth", resume=True) == {"iteration": 19}
    assert value_of(loader.model) == 19.0
    assert counter.value == 19


def test_weights_only_files_do_not_become_the_last_checkpoint(tmp_path):
    run_folder(tmp_path, [9])
    SlotSegCheckpointer(filled(5.0), str(tmp_path)).save_weights("model_best", iteration=4)
    assert SlotSegCheckpointer(model(), str(tmp_path)).get_checkpoint_file().endswith("009.pth")
    fresh = model()
    load_weights(fresh, find_trained_weights(str(tmp_path)))
    assert value_of(fresh) == 5.0
    (tmp_path / "model_best.pth").unlink()
    assert find_trained_weights(str(tmp_path)).endswith("model_0000009.pth")


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, lambda p: Path(p).write_bytes(b"")])
def test_damaged_checkpoint_names_itself_and_the_intact_one(tmp_path, harm):
    run_folder(tmp_path)
    harm(tmp_path / "model_0000019.pth")
    fresh = filled(-1.0)
    with pytest.raises(CheckpointError) as caught:
        SlotSegCheckpointer(fresh, str(tmp_path), counter=Counter()).resume()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/model_0000019.pth: ")
    assert f"go on from {tmp_path}/model_0000009.pth" in message
    assert "\n" not in message
    assert value_of(fresh) == -1.0
    # Doing what it says.
    (tmp_path / "model_0000019.pth").unlink()
    SlotSegCheckpointer(fresh, str(tmp_path), counter=Counter()).resume()
    assert value_of(fresh) == 9.0


def test_no_intact_checkpoint_is_an_error_and_no_fresh_start(tmp_path):
    run_folder(tmp_path)
    truncate(tmp_path / "model_0000009.pth")
    truncate(tmp_path / "model_0000019.pth", keep=0.01)
    with pytest.raises(CheckpointError, match="no other checkpoint is intact"):
        SlotSegCheckpointer(model(), str(tmp_path), counter=Counter()).resume_or_load("")


def test_last_checkpoint_without_its_file(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000019.pth")
    resumer = SlotSegCheckpointer(model(), str(tmp_path))
    with pytest.raises(CheckpointError, match=r"names model_0000019\.pth, which is not there"):
        resumer.resume_or_load("", resume=True)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_trained_weights(str(tmp_path / "elsewhere"))


def test_checkpoint_that_is_not_yet_the_last(tmp_path):
    """Killed between a checkpoint and the note of its name: the run goes on nevertheless."""
    run_folder(tmp_path)
    (tmp_path / "last_checkpoint").unlink()
    resumer = SlotSegCheckpointer(model(), str(tmp_path), counter=Counter())
    assert resumer.resume()["iteration"] == 19


def test_other_shapes(tmp_path):
    run_folder(tmp_path, [9])
    with pytest.raises(CheckpointError, match="of another model") as caught:
        load_weights(model(width=4), str(tmp_path / "model_0000009.pth"))
    assert "0.weight [3, 2] instead of [4, 2]" in str(caught.value)


def test_missing_and_unknown_keys(tmp_path, caplog):
    path = str(tmp_path / "part.pth")
    torch.save({"0.weight": torch.full((3, 2), 7.0), "9.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model(), path)
    message = str(caught.value)
    assert "lacks 3 keys (0.bias, 1.weight, 1.bias)" in message
    assert "unknown 1 keys (9.weight)" in message
    # As a start for training it is fine, and said.
    fresh = model()
    with caplog.at_level("WARNING"):
        SlotSegCheckpointer(fresh).load(path, checkpointables=[])
    assert value_of(fresh) == 7.0
    assert "lacks 3 keys" in caplog.text and "has unknown 1 keys" in caplog.text


def test_nothing_in_common_is_an_error_even_as_a_start(tmp_path):
    path = str(tmp_path / "other.pth")
    torch.save({"model": {"x": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="of another model"):
        SlotSegCheckpointer(model()).load(path, checkpointables=[])


def test_weights_without_training_state_cannot_be_resumed(tmp_path):
    SlotSegCheckpointer(filled(1.0), str(tmp_path)).save_weights("weights")
    loader = SlotSegCheckpointer(model(), counter=Counter())
    with pytest.raises(CheckpointError, match="holds no counter"):
        loader.load(str(tmp_path / "weights.pth"))


def test_safetensors_and_wrapped_models(tmp_path):
    save_safetensors(filled(2.0).state_dict(), str(tmp_path / "a.safetensors"))
    fresh = model()
    load_weights(fresh, str(tmp_path / "a.safetensors"))
    assert value_of(fresh) == 2.0
    truncate(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(fresh, str(tmp_path / "a.safetensors"))
    wrapped = {f"module.{key}": value for key, value in filled(3.0).state_dict().items()}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    load_weights(fresh, str(tmp_path / "wrapped.pth"))
    assert value_of(fresh) == 3.0


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_in_a_checkpoint_is_not_executed(tmp_path, suffix):
    path = tmp_path / f"evil{suffix}"
    proof = tmp_path / "executed"
    content = {"model": filled(1.0).state_dict(), "__author__": "x", "extra": Malicious(proof)}
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="MODEL.TRUST_PICKLE True"):
        load_weights(model(), str(path))
    assert not proof.exists()
    fresh = model()
    load_weights(fresh, str(path), trust_pickle=True)
    assert value_of(fresh) == 1.0
    assert proof.exists()


def test_model_zoo_pickle_with_numpy_weights(tmp_path):
    weights = {key: value.numpy() for key, value in filled(4.0).state_dict().items()}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2 Model Zoo"}))
    fresh = model()
    load_weights(fresh, str(path), trust_pickle=True)
    assert value_of(fresh) == 4.0


@pytest.mark.parametrize(
    "content", [b"", b"hello", pickle.dumps(3, protocol=2), b"PK\x03\x04broken"]
)
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth: "):
        load_weights(model(), str(path))


def test_a_pickle_of_something_else(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(CheckpointError, match=r"x\.pkl: not a checkpoint but a list"):
        load_weights(model(), str(path), trust_pickle=True)


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_weights(model(), str(tmp_path / "none.pth"))


def test_numpy_states_are_saved_as_plain_ones(tmp_path):
    state = Counter(np.float64(0.5))
    SlotSegCheckpointer(model(), str(tmp_path), counter=state).save("model_0000000")
    loaded = torch.load(tmp_path / "model_0000000.pth", weights_only=True)
    assert type(loaded["counter"]["value"]) is float


def test_state_that_could_not_be_loaded_is_refused_when_saving(tmp_path):
    saver = SlotSegCheckpointer(model(), str(tmp_path), counter=Counter({1, 2}))
    with pytest.raises(CheckpointError, match=r"checkpoint\.counter\.value: a set cannot"):
        saver.save("model_0000000")
    assert os.listdir(tmp_path) == []


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    run_folder(tmp_path, [9])
    before = (tmp_path / "model_0000009.pth").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files.os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        SlotSegCheckpointer(filled(1.0), str(tmp_path)).save("model_0000009")
    assert (tmp_path / "model_0000009.pth").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000009.pth"]


def test_left_overs_of_a_kill_are_removed(tmp_path):
    run_folder(tmp_path, [9])
    for name in ("model_0000019.pth.partial", "run.json.partial-123"):
        (tmp_path / name).write_bytes(b"half")
    checkpoint_files.remove_partial_files(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000009.pth"]
