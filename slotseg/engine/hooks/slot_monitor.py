"""Watch the slots while they learn, and say so when they collapse."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor

from slotseg.engine import seed_health, slot_health
from slotseg.engine.gradients import room_gradient_norms
from slotseg.engine.hooks.schedule import is_due
from slotseg.engine.inference import inference_mode
from slotseg.engine.rng import forked_rng
from slotseg.visualization.slot_planes import draw_slot_planes

MONITOR_FILE = "monitor.jsonl"
# Images of which pictures are made: the others would only be scrolled past.
_PICTURES = 8

_logger = logging.getLogger(__name__)


class SlotMonitor(HookBase):
    """Looks at the slots of the same few images every ``period`` iterations and at the end.

    Logs the scalars ``slot_monitor/*`` (see :class:`slotseg.engine.slot_health.SlotStatistics`,
    for initialisers that look at images :class:`slotseg.engine.seed_health.SeedStatistics`, for
    two levels ``sibling_similarity``, and ``slot_monitor/grad_norm/<room>`` of that iteration's
    step before clipping), adds a line to ``OUTPUT_DIR/monitor.jsonl``, and puts what is wrong into
    words. For initialisers that look at images it also draws where the slots of the first ones
    start. While the learning rate still warms up nothing is called wrong yet, since slots always
    start alike.

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
        look = self._judge(outputs)
        for name, value in look.scalars().items():
            self.trainer.storage.put_scalar(f"slot_monitor/{name}", value, smoothing_hint=False)
        planes = self._seed_planes(outputs)
        self._report(look, planes)

    def _judge(self, outputs: list[dict[str, Any]]) -> _Look:
        limits = {
            "similarity_warning": self._cfg.SLOT_MONITOR.SIMILARITY_WARNING,
            "similarity_error": self._cfg.SLOT_MONITOR.SIMILARITY_ERROR,
        }
        slots = slot_health.slot_statistics(outputs)
        siblings = slot_health.sibling_similarity(outputs)
        norms = {room: float(norm) for room, norm in self._gradient_norms.items()}
        findings = slot_health.diagnose(
            slots, norms, num_slots=len(outputs[0]["slots"]), siblings=siblings, **limits
        )
        seeds = seed_health.seed_statistics(outputs)
        if seeds is not None:
            findings += seed_health.diagnose_seeds(seeds, **limits)
        return _Look(slots, siblings, seeds, norms, slot_health.worst_first(findings))

    def _seed_planes(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Where slots start on the first images, also as a picture for TensorBoard."""
        if not seed_health.has_seeds(outputs):
            return []
        names = [item.get("file_name", "") for batch in self._probe for item in batch]
        planes = seed_health.seed_planes(outputs[:_PICTURES], names[:_PICTURES])
        picture = draw_slot_planes(planes).transpose(2, 0, 1)
        self.trainer.storage.put_image("slot_monitor/initial_slots", picture)
        return planes

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

    def _report(self, look: _Look, planes: list[dict[str, Any]]) -> None:
        warming_up = self.trainer.iter < self._cfg.SOLVER.WARMUP_ITERS
        verdict = "warming up" if warming_up else slot_health.verdict(look.findings)
        line = {
            "iteration": self.trainer.iter,
            **look.statistics(),
            "grad_norms": look.gradient_norms,
            "verdict": verdict,
            "message": "; ".join(finding.message for finding in look.findings),
            **({"seed_planes": planes} if planes else {}),
        }
        path = os.path.join(self._cfg.OUTPUT_DIR, MONITOR_FILE)
        with PathManager.open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
        _logger.info(f"Slots: {look.in_words()} ({verdict})")
        if not warming_up:
            for finding in look.findings:
                level = logging.ERROR if finding.level == slot_health.COLLAPSED else logging.WARNING
                _logger.log(level, f"Slot monitor: {finding.message}")


@dataclass(frozen=True)
class _Look:
    """What one look at the probe images told."""

    slots: slot_health.SlotStatistics
    siblings: float | None
    seeds: seed_health.SeedStatistics | None
    gradient_norms: dict[str, float]
    findings: list[slot_health.Finding]

    def statistics(self) -> dict[str, float]:
        """All numbers on slots by name; those that this model has no use for are left out."""
        siblings = {} if self.siblings is None else {"sibling_similarity": self.siblings}
        seeds = {} if self.seeds is None else self.seeds.as_dict()
        return {**self.slots.as_dict(), **siblings, **seeds}

    def scalars(self) -> dict[str, float]:
        """The same and the gradient norms."""
        norms = {f"grad_norm/{room}": norm for room, norm in self.gradient_norms.items()}
        return {**self.statistics(), **norms}

    def in_words(self) -> str:
        """For the log."""
        words = (
            f"similarity {self.slots.similarity:.2f}, mask entropy {self.slots.mask_entropy:.2f}, "
            f"{self.slots.slots_in_use:.1f} in use, largest {self.slots.largest_share:.0%} of the "
            "pixels"
        )
        if self.siblings is not None:
            words += f", siblings' similarity {self.siblings:.2f}"
        if self.seeds is not None:
            words += (
                f"; {self.seeds.seeded_slots:.1f} start on seeds of similarity "
                f"{self.seeds.seed_similarity:.2f}, {self.seeds.fallback_share:.0%} of the images "
                "without any"
            )
        return words


def _has_slots(outputs: list[dict[str, Any]]) -> bool:
    return bool(outputs) and all("slots" in o and "slot_masks" in o for o in outputs)
