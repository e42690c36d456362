"""Watch the slots while they learn, and say so when they collapse."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor

from slotseg.engine import slot_health
from slotseg.engine.gradients import room_gradient_norms
from slotseg.engine.hooks.schedule import is_due
from slotseg.engine.inference import inference_mode
from slotseg.engine.rng import forked_rng

MONITOR_FILE = "monitor.jsonl"

_logger = logging.getLogger(__name__)


class SlotMonitor(HookBase):
    """Looks at the slots of the same few images every ``period`` iterations and at the end.

    Logs the scalars ``slot_monitor/*`` (see :class:`slotseg.engine.slot_health.SlotStatistics`,
    and ``slot_monitor/grad_norm/<room>`` of that iteration's step before clipping), adds a
    line to ``OUTPUT_DIR/monitor.jsonl``, and puts what is wrong into words. While the learning
    rate still warms up nothing is called wrong yet, since slots always start alike.

    Randomness comes from a generator of its own: watching does not change the training.

    Args:
        cfg: ``SLOT_MONITOR``, and where the images come from.
        period: iterations.
    """

    def __init__(self, cfg: CfgNode, period: int) -> None:
        self._cfg = cfg
        self._period = period
        self._seed = max(cfg.SEED, 0)
        self._probe: list[list[dict[str, Any]]] | None = None
        self._gradient_norms: dict[str, Tensor] = {}
        self._enabled = comm.is_main_process() and cfg.SLOT_MONITOR.IMAGES > 0

    def after_backward(self) -> None:
        """Called by the trainer with all gradients in place, not yet clipped."""
        if self._is_due():
            self._gradient_norms = room_gradient_norms(self.trainer.plain_model)

    def after_step(self) -> None:
        if not self._is_due():
            return
        outputs = self._look()
        if not _has_slots(outputs):
            _logger.info("The model gives no slots and slot_masks: the slot monitor is off")
            self._enabled = False
            return
        statistics = slot_health.slot_statistics(outputs)
        norms = {room: float(norm) for room, norm in self._gradient_norms.items()}
        findings = slot_health.diagnose(
            statistics,
            norms,
            num_slots=len(outputs[0]["slots"]),
            similarity_warning=self._cfg.SLOT_MONITOR.SIMILARITY_WARNING,
            similarity_error=self._cfg.SLOT_MONITOR.SIMILARITY_ERROR,
        )
        self._log_scalars(statistics, norms)
        self._report(statistics, norms, findings)

    def _is_due(self) -> bool:
        return self._enabled and is_due(self.trainer.iter, self._period, self.trainer.max_iter)

    def _look(self) -> list[dict[str, Any]]:
        with forked_rng(self._seed), inference_mode(self.trainer.plain_model) as model:
            if self._probe is None:
                self._probe = self._load_probe()
            outputs: list[dict[str, Any]] = []
            for batch in self._probe:
                outputs += model(batch)
                if not _has_slots(outputs):
                    # A model of another kind: the first batch tells.
                    break
            return outputs

    def _load_probe(self) -> list[list[dict[str, Any]]]:
        """The first images of the first test set, or of the training set without one."""
        names = self._cfg.DATASETS.TEST or self._cfg.DATASETS.TRAIN
        wanted = self._cfg.SLOT_MONITOR.IMAGES
        batches: list[list[dict[str, Any]]] = []
        for batch in self.trainer.build_probe_loader(self._cfg, names[0]):
            batches.append(list(batch)[:wanted])
            wanted -= len(batches[-1])
            if wanted <= 0:
                break
        return batches

    def _log_scalars(self, statistics: slot_health.SlotStatistics, norms: dict[str, float]) -> None:
        scalars = statistics.as_dict() | {f"grad_norm/{k}": v for k, v in norms.items()}
        for name, value in scalars.items():
            self.trainer.storage.put_scalar(f"slot_monitor/{name}", value, smoothing_hint=False)

    def _report(
        self,
        statistics: slot_health.SlotStatistics,
        norms: dict[str, float],
        findings: list[slot_health.Finding],
    ) -> None:
        warming_up = self.trainer.iter < self._cfg.SOLVER.WARMUP_ITERS
        verdict = "warming up" if warming_up else slot_health.verdict(findings)
        line = {
            "iteration": self.trainer.iter,
            **statistics.as_dict(),
            "grad_norms": norms,
            "verdict": verdict,
            "message": "; ".join(finding.message for finding in findings),
        }
        path = os.path.join(self._cfg.OUTPUT_DIR, MONITOR_FILE)
        with PathManager.open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
        _logger.info(
            f"Slots: similarity {statistics.similarity:.2f}, mask entropy "
            f"{statistics.mask_entropy:.2f}, {statistics.slots_in_use:.1f} in use, largest "
            f"{statistics.largest_share:.0%} of the pixels ({verdict})"
        )
        if not warming_up:
            for finding in findings:
                level = logging.ERROR if finding.level == slot_health.COLLAPSED else logging.WARNING
                _logger.log(level, f"Slot monitor: {finding.message}")


def _has_slots(outputs: list[dict[str, Any]]) -> bool:
    return bool(outputs) and all("slots" in o and "slot_masks" in o for o in outputs)
