"""The training loop."""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
import torch.distributed
from detectron2.config import CfgNode
from detectron2.engine.hooks import IterationTimer
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from torch import Tensor, nn

import slotseg
from slotseg.data import TrainingBatch, build_test_loader, build_train_loader, epoch_length
from slotseg.data.mixing import build_mixing
from slotseg.engine import hooks
from slotseg.engine.checkpoint import SlotSegCheckpointer
from slotseg.engine.checkpoint_files import remove_partial_files
from slotseg.engine.checkpoint_teacher import TEACHER
from slotseg.engine.config_changes import config_changes
from slotseg.engine.evaluators import INFERENCE_FOLDER, build_evaluator
from slotseg.engine.feature_cache import check_weights
from slotseg.engine.gradients import build_gradient_clipper
from slotseg.engine.history import drop_lines_from
from slotseg.engine.hooks.progress_bar import terminal_is_watched
from slotseg.engine.hooks.slot_monitor import MONITOR_FILE
from slotseg.engine.inference import evaluate
from slotseg.engine.lr_schedule import IterationLR, build_lr_schedule
from slotseg.engine.mean_teacher import build_teacher
from slotseg.engine.nonfinite import stop_training
from slotseg.engine.optimizer import build_optimizer
from slotseg.engine.parallel import without_exchange, wrap_distributed
from slotseg.engine.precision import build_autocast, build_grad_scaler
from slotseg.engine.results import Results
from slotseg.engine.rng import forked_rng, get_rng_state, seed_all, set_rng_state
from slotseg.engine.unsupervised import with_clusters
from slotseg.engine.writers import METRICS_FILE, build_writers
from slotseg.errors import CheckpointError
from slotseg.semi import PseudoLabeller

_WRITE_PERIOD = 20


class Trainer(TrainerBase):
    """Detectron2's trainer interface with a step, checkpoints and a resume of its own.

    The class methods ``build_*`` and ``test`` have the meaning they have in Detectron2's
    ``DefaultTrainer`` and may be overridden likewise. One iteration draws a batch, lets hooks
    change it (``after_draw``), computes the losses of its labelled and its pseudo-labelled part
    (under autocast with ``SOLVER.AMP.ENABLED``), their gradients, clips them, refuses to go on if
    any of these numbers is not finite, and steps the optimiser and the learning rate. With
    ``MEAN_TEACHER.ENABLED`` a teacher follows the trained model, which is its student then, makes
    the pseudo labels, and is the model that is scored, kept as the best and shipped.

    A run is a function of its config: data order and augmentation depend on the seed and the
    iteration alone, and every generator's state is part of the checkpoint. A run that is killed at
    any moment and resumed therefore ends with the same weights, bit by bit on a CPU with the same
    number of threads, as one that was not.

    Args:
        cfg: see :mod:`slotseg.config`; ``MODEL.DEVICE`` must be available.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.logger = logging.getLogger(__name__)
        self.cfg = cfg
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.plain_model = self.build_model(cfg)
        self.model = wrap_distributed(self.plain_model)
        self.optimizer = self.build_optimizer(cfg, self.plain_model)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        self.grad_scaler = build_grad_scaler(cfg, self.device)
        self.autocast = build_autocast(cfg, self.device)
        # After the wrapper, which gives every process the weights of the first.
        self.teacher = build_teacher(cfg, self.plain_model, self.build_model)
        self._clip_gradients = build_gradient_clipper(cfg)
        self._parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.checkpointer = SlotSegCheckpointer(
            self.plain_model,
            cfg.OUTPUT_DIR,
            trust_pickle=cfg.MODEL.TRUST_PICKLE,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            trainer=weakref.proxy(self),
            **({} if self.teacher is None else {TEACHER: self.teacher}),
        )
        # Scores of the last evaluation, and the iteration after which it was made.
        self.results: Results = {}
        self.evaluated_at: int | None = None
        self.steps_done = 0
        self._batch_source: Iterator[TrainingBatch | list[dict[str, Any]]] | None = None
        self._resumed_rng: list[dict[str, Any]] | None = None
        self.register_hooks(self.build_hooks())

    # ----- what a subclass may replace, as in Detectron2's DefaultTrainer

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The meta-architecture that ``MODEL.META_ARCHITECTURE`` names, on ``MODEL.DEVICE``."""
        model = build_model(cfg)
        count = sum(p.numel() for p in model.parameters())
        logging.getLogger(__name__).info(f"{type(model).__name__} with {count:,} parameters")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`slotseg.engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> IterationLR:
        """See :func:`slotseg.engine.lr_schedule.build_lr_schedule`."""
        return build_lr_schedule(cfg, optimizer)

    @classmethod
    def build_train_loader(
        cls, cfg: CfgNode, start_iter: int = 0
    ) -> Iterable[TrainingBatch | list[dict[str, Any]]]:
        """Endless batches from iteration ``start_iter`` on; a list is one of labelled images."""
        return build_train_loader(cfg, start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict[str, Any]]]:
        """This rank's part of a data set, in batches."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_probe_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict[str, Any]]]:
        """Where the slot monitor takes its images from; only the main rank reads them."""
        return cls.build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """See :func:`slotseg.engine.evaluators.build_evaluator`."""
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def build_labeller(cls, cfg: CfgNode) -> hooks.Labeller | None:
        """What labels unlabelled images, where there are any; see
        :class:`slotseg.semi.PseudoLabeller`.
        """
        return PseudoLabeller(cfg) if cfg.SEMI.IMS_PER_BATCH > 0 else None

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
    ) -> Results:
        """Score ``model`` on every set of ``DATASETS.TEST``; with ``UNSUPERVISED.CLUSTERS`` its
        segments get the classes of clusters first.

        Returns:
            ``{set: {task: {score: value}}}`` on the main rank, ``{set: {}}`` on the others.
        """
        check_weights(cfg, model)
        model = with_clusters(cfg, model)
        results: Results = OrderedDict()
        for index, name in enumerate(cfg.DATASETS.TEST):
            evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            loader = cls.build_test_loader(cfg, name)
            # Sampled initial slots: the same for the same weights, whatever ran before.
            with forked_rng(max(cfg.SEED, 0)):
                results[name] = evaluate(model, loader, evaluator, title=f"evaluating {name}")
        return results

    def build_hooks(self) -> list[HookBase | None]:
        """Order matters: score, keep the best, write the curves, then save everything.

        A kill in between is harmless, since the resumed run does all of it again.
        """
        cfg, main = self.cfg, comm.is_main_process()
        mixing = build_mixing(cfg)
        checkpoint = hooks.PeriodicCheckpoint(
            self._period(cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.CHECKPOINT_EPOCHS),
            cfg.SOLVER.CHECKPOINTS_KEPT,
        )
        return [
            # Before the record of time, which ends with its turn: following is part of a step.
            self._mean_teacher_hook(),
            hooks.RunRecord(checkpoint.is_due),
            IterationTimer(),
            hooks.Mixing(mixing) if mixing else None,
            self._curriculum_hook(),
            hooks.SlotMonitor(cfg, self._period(cfg.SLOT_MONITOR.PERIOD, 1)),
            hooks.ExamplePictures(cfg, self._period(cfg.PICTURES.PERIOD, 1)),
            hooks.Evaluation(
                self._period(cfg.TEST.EVAL_PERIOD, cfg.TEST.EVAL_EPOCHS),
                max(cfg.SEED, 0),
                with_student=cfg.MEAN_TEACHER.EVALUATE_STUDENT,
            ),
            hooks.BestCheckpoint(cfg.TEST.BEST_METRIC),
            hooks.ProgressBar() if main and terminal_is_watched() else None,
            hooks.MetricWriter(self.build_writers, _WRITE_PERIOD, checkpoint.is_due)
            if main
            else None,
            checkpoint,
        ]

    def build_writers(self) -> list[EventWriter]:
        """See :func:`slotseg.engine.writers.build_writers`; called when training begins."""
        return build_writers(self.cfg.OUTPUT_DIR, self.start_iter, self.max_iter)

    # ----- running

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``.

        Raises:
            CheckpointError: the last checkpoint is damaged or of another model; or, without
                ``resume``, the folder already holds a run, which would be overwritten.
        """
        self._resumed_rng = None
        if not self.checkpointer.has_checkpoint():
            self.checkpointer.load(
                self.cfg.MODEL.WEIGHTS,
                checkpointables=[],
                weights_of=self.cfg.TEST.WEIGHTS_OF,
            )
        elif resume:
            extra = self.checkpointer.resume()
            self.start_iter = self.iter + 1
            self._resumed_rng = extra["rng"]
            for change in config_changes(extra.get("config", ""), self.cfg.dump()):
                self.logger.warning(f"Other than in the checkpoint: {change}")
        else:
            raise CheckpointError(
                f"{self.cfg.OUTPUT_DIR}: already holds the checkpoints of a run; add --resume to "
                "go on with it, or choose another OUTPUT_DIR"
            )
        # Nobody writes into the folder before everybody has looked at it.
        comm.synchronize()

    def train(self) -> Results:
        """Train from ``start_iter`` to ``max_iter``.

        Returns:
            The scores of the trained model, as :meth:`test`.
        """
        check_weights(self.cfg, self.plain_model)
        if comm.is_main_process():
            self._clean_up_after_kill()
        self.model.train()
        self.iter = self.steps_done = self.start_iter
        self.logger.info(f"Training from iteration {self.start_iter} to {self.max_iter}")
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                if self.start_iter < self.max_iter:
                    self.reopen_data()
                    self._restore_rng()
                for iteration in range(self.start_iter, self.max_iter):
                    self.iter = iteration
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter = self.max_iter
            finally:
                self._batch_source = None
                self.after_train()
        return self.results

    def reopen_data(self) -> None:
        """Draw the batches from the current iteration on anew, this one included.

        For hooks that change the order of the data, before the batch of an iteration is drawn.
        """
        # Its workers end before the next ones start.
        self._batch_source = None
        self._batch_source = self._open_data()

    def run_step(self) -> None:
        """One iteration; see the class."""
        began = time.perf_counter()
        batch = TrainingBatch.of(next(self._batch_source))
        self.storage.put_scalar("data_time", time.perf_counter() - began)
        batch = self.after_draw(batch)
        self.optimizer.zero_grad(set_to_none=True)
        scalars = self.accumulate_gradients(batch)
        self.grad_scaler.unscale_(self.optimizer)
        self.after_backward()
        norm = self._clip_gradients(self._parameters)
        values = self._read_values({**scalars, "grad_norm": norm})
        self._require_finite(values, [*batch.labeled, *batch.pseudo])
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.storage.put_scalar("lr", self.scheduler.get_last_lr()[0], smoothing_hint=False)
        self.scheduler.step()
        for name, value in values.items():
            self.storage.put_scalar(name, value)
        self.steps_done = self.iter + 1

    def accumulate_gradients(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Add up the gradients of all parts of a batch, one part after the other.

        Never are the activations of two parts in memory at once, and ranks exchange gradients
        only once, with the last part.

        Returns:
            The losses by name, those of pseudo-labelled images as ``pseudo_<name>`` and without
            their weight; and ``total_loss``, the weighted sum. What losses log themselves of these
            images is ``pseudo/<name>``.
        """
        parts = [("", nullcontext(), batch.labeled, 1.0)]
        if batch.pseudo:
            scope = self.storage.name_scope("pseudo")
            parts.append(("pseudo_", scope, batch.pseudo, batch.pseudo_weight))
        scalars: dict[str, Tensor] = {}
        totals = []
        for prefix, scope, images, weight in parts:
            last = len(totals) == len(parts) - 1
            with scope, nullcontext() if last else without_exchange(self.model):
                with self.autocast():
                    losses = self.model(images)
                    totals.append(weight * sum(losses.values()))
                self.grad_scaler.scale(totals[-1]).backward()
            scalars |= {f"{prefix}{name}": loss.detach() for name, loss in losses.items()}
        return {**scalars, "total_loss": torch.stack([t.detach() for t in totals]).sum()}

    def after_draw(self, batch: TrainingBatch) -> TrainingBatch:
        """The batch as hooks that care change it, in their order: pseudo labels, mixed images."""
        for hook in self._hooks:
            if hasattr(hook, "after_draw"):
                batch = hook.after_draw(batch)
        return batch

    def after_backward(self) -> None:
        """Tell hooks that care that gradients are there, unscaled and not yet clipped."""
        for hook in self._hooks:
            if hasattr(hook, "after_backward"):
                hook.after_backward()

    # ----- state

    def save_checkpoint(self, name: str) -> None:
        """Save everything that the next iteration depends on. Every rank must call it."""
        rng = comm.gather(get_rng_state())
        self.checkpointer.save(name, iteration=self.iter, rng=rng, **self.provenance())

    def provenance(self) -> dict[str, str]:
        """What made a checkpoint: the config's text and the version."""
        return {"config": self.cfg.dump(), "slotseg_version": slotseg.__version__}

    def state_dict(self) -> dict[str, Any]:
        """Iteration, loss scale, and the state of every hook that has one.

        A hook's key is its class and its number among the hooks of that class: two of one class
        keep a state each.
        """
        states = {key: hook.state_dict() for key, hook in self._hooks_by_key().items()}
        return {
            "iteration": self.iter,
            "grad_scaler": self.grad_scaler.state_dict(),
            "hooks": {key: state for key, state in states.items() if state},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart of :meth:`state_dict`."""
        self.iter = int(state_dict["iteration"])
        if state_dict["grad_scaler"] and self.grad_scaler.is_enabled():
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        own = self._hooks_by_key()
        for key, state in state_dict["hooks"].items():
            if key in own:
                own[key].load_state_dict(state)
            else:
                self.logger.warning(f"The checkpoint has a state for the hook {key}, which is off")

    # ----- details

    @property
    def shipped_model(self) -> nn.Module:
        """The model that is scored and kept: the teacher, or lacking one the trained model."""
        return self.plain_model if self.teacher is None else self.teacher.model

    def _mean_teacher_hook(self) -> HookBase | None:
        cfg = self.cfg
        if self.teacher is not None:
            return hooks.MeanTeacher(self.teacher, self.build_labeller(cfg), max(cfg.SEED, 0))
        if cfg.SEMI.IMS_PER_BATCH > 0:
            self.logger.warning(
                "SEMI.IMS_PER_BATCH: unlabelled images are read, but nobody labels them; set "
                "MEAN_TEACHER.ENABLED True, or IMS_PER_BATCH 0"
            )
        return None

    def _curriculum_hook(self) -> HookBase | None:
        node = self.cfg.CURRICULUM
        if not node.DIFFICULTY:
            return None
        return hooks.Curriculum(self.cfg, self._period(node.PERIOD, node.EPOCHS))

    @cached_property
    def iterations_per_epoch(self) -> int:
        """Iterations in which the training set is seen once."""
        return epoch_length(self.cfg)

    def _period(self, iterations: int, epochs: int) -> int:
        return iterations if iterations > 0 else epochs * self.iterations_per_epoch

    def _hooks_by_key(self) -> dict[str, HookBase]:
        seen: Counter[str] = Counter()
        keyed: dict[str, HookBase] = {}
        for hook in self._hooks:
            name = type(hook).__qualname__
            keyed[f"{name}#{seen[name]}"] = hook
            seen[name] += 1
        return keyed

    def _open_data(self) -> Iterator[TrainingBatch | list[dict[str, Any]]]:
        # Opening a loader draws from torch's generator, how often depends on where the run starts.
        with forked_rng(max(self.cfg.SEED, 0)):
            loader = self.build_train_loader(self.cfg, self.iter)
            for hook in self._hooks:
                if hasattr(hook, "after_open"):
                    hook.after_open(loader)
            return iter(loader)

    def _restore_rng(self) -> None:
        if self._resumed_rng is None:
            return
        rank, world = comm.get_rank(), comm.get_world_size()
        if len(self._resumed_rng) == world:
            set_rng_state(self._resumed_rng[rank])
            return
        self.logger.warning(
            f"The checkpoint was made by {len(self._resumed_rng)} processes, now there are "
            f"{world}: random numbers start afresh"
        )
        seed_all(max(self.cfg.SEED, 0) + 1_000_003 * self.start_iter + rank)

    def _read_values(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Scalars as numbers, averaged over ranks: one wait for the device a step."""
        with torch.no_grad():
            values = torch.stack([v.detach().float().to(self.device) for v in scalars.values()])
            if comm.get_world_size() > 1:
                torch.distributed.all_reduce(values)
                values /= comm.get_world_size()
        return dict(zip(scalars, values.tolist(), strict=True))

    def _require_finite(self, values: dict[str, float], batch: list[dict[str, Any]]) -> None:
        # With loss scaling an overflowing gradient is normal: the scaler skips that step.
        ignored = {"grad_norm"} if self.grad_scaler.is_enabled() else set()
        if all(math.isfinite(v) for k, v in values.items() if k not in ignored):
            return
        stop_training(values, batch, iteration=self.iter, output_dir=self.cfg.OUTPUT_DIR)

    def _clean_up_after_kill(self) -> None:
        folder = self.cfg.OUTPUT_DIR
        remove_partial_files(folder)
        remove_partial_files(os.path.join(folder, INFERENCE_FOLDER))
        for name in (METRICS_FILE, MONITOR_FILE):
            drop_lines_from(os.path.join(folder, name), self.start_iter)
