"""How processes are started; two of them train in tests/tools."""

import os

import pytest

from slotseg.engine.launch import launch
from slotseg.errors import ConfigError


def test_one_process_is_this_one():
    seen = []
    launch(seen.append, num_gpus=1, args=(os.getpid(),))
    assert seen == [os.getpid()]


def test_machines_need_an_address():
    with pytest.raises(ConfigError, match="--dist-url"):
        launch(print, num_gpus=0, num_machines=2)


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="--num-gpus 2: this machine has 1 GPUs"):
        launch(print, num_gpus=2)
