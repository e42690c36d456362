"""The clock that stands still while others have the processor."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from slotseg.engine.clocks import clock, processor_seconds
from slotseg.engine.hooks import run_record
from slotseg.engine.hooks.run_record import read_run_record
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def work_until_told(seconds, done, go):
    busy(seconds)
    done.set()
    go.wait(60)


def test_sleep_takes_no_processor_and_work_does():
    began = processor_seconds()
    time.sleep(0.2)
    asleep = processor_seconds() - began
    busy(0.1)
    assert asleep < 0.1
    assert 0.1 <= processor_seconds() - began - asleep < 0.2


def test_the_work_of_a_worker_counts_while_it_lives_and_once_it_has_ended():
    context = multiprocessing.get_context("fork")
    done, go = context.Event(), context.Event()
    worker = context.Process(target=work_until_told, args=(0.3, done, go), daemon=True)
    before = processor_seconds() - time.process_time()
    worker.start()
    try:
        assert done.wait(60)
        with_worker = processor_seconds() - time.process_time() - before
        # The system counts in hundredths of a second.
        assert 0.25 <= with_worker < 5
    finally:
        go.set()
        worker.join()
    ended = processor_seconds() - time.process_time() - before
    assert ended == pytest.approx(with_worker, abs=0.2)


def test_clocks_have_names():
    assert clock("wall") is time.perf_counter
    assert clock("processor") is processor_seconds
    with pytest.raises(ConfigError, match="unknown clock 'sun'; choose wall or processor"):
        clock("sun")


def test_processor_time_adds_up_over_an_interruption(tiny_cfg, monkeypatch):
    """A clock that ticks once a look: every step that led to the weights counts one."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(run_record, "processor_seconds", lambda: float(next(ticks)))
    cfg = tiny_cfg("SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2, "SLOT_MONITOR.PERIOD", 6)
    step = Trainer.run_step

    def stop(self):
        if self.iter == 3:
            raise RuntimeError("power cut")
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            Trainer(cfg).train()
    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 2
    again.train()
    assert read_run_record(cfg.OUTPUT_DIR)["processor_seconds"] == 6
