"""What a training step of a config costs, and what its whole training is then expected to need.

For slot models. Measured on this machine, on the CPU, with one image of noise of the size that the
config trains on: the peak memory of a step (slotseg/comparison/step_memory.py), in a process of its
own. Counted: the floating-point operations of matrix products and convolutions in the forward and
backward pass of the rooms (the losses have next to none), on tensors without data.

Expected, from these: the memory of a process with ``--images`` images, where weights, gradients
and AdamW's two moments count once and the rest for every image; and the hours of the whole training
on GPUs that each sustain ``--tflops`` teraflops a second, which is an assumption. Loading data,
scoring and what a GPU's libraries take come on top.

python benchmarks/training_cost.py configs/cityscapes/slot_r50_fpn.yaml
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.config import CfgNode
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from slotseg.comparison.measure import count_parameters
from slotseg.comparison.step_memory import training_step_memory_mib
from slotseg.config import get_cfg, has_slots
from slotseg.engine.cli import user_errors
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError

_MIB = 2**20


def load(config_file: str) -> CfgNode:
    """The config on the CPU, with random weights: neither memory nor work depends on them."""
    return get_cfg(config_file, ["MODEL.DEVICE", "cpu", "MODEL.VIT.WEIGHTS", ""])


def training_size(cfg: CfgNode) -> tuple[int, int]:
    """Height and width of the images that the model is trained on."""
    crop = cfg.INPUT.CROP
    height, width = crop.SIZE if crop.ENABLED else cfg.INPUT.IMAGE_SIZE
    return int(height), int(width)


def count_step(cfg: CfgNode, size: tuple[int, int]) -> dict[str, float]:
    """Parameters, and teraflops of a forward and backward pass on one image."""
    if not has_slots(cfg.MODEL.META_ARCHITECTURE):
        raise ConfigError(f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} has no slots")
    seed_all(0)
    model = Trainer.build_model(cfg).train().to("meta")
    divisor = max(model.backbone.size_divisibility, 1)
    height, width = (-(-side // divisor) * divisor for side in size)
    with FlopCounterMode(display=False) as counter:
        seen = model.look(torch.empty(1, 3, height, width, device="meta"))
        made = [seen.slots.attention, seen.class_logits]
        made += [x for d in seen.decoded for x in vars(d).values() if isinstance(x, torch.Tensor)]
        sum(x.sum() for x in made if x is not None).backward()
    return {
        "parameters": count_parameters(model),
        "trained_parameters": count_parameters(model, trained=True),
        "teraflops_an_image": counter.get_total_flops() / 1e12,
    }


def measure(config_file: str) -> dict[str, float]:
    """All that is measured, for a process that does nothing else: memory comes first."""
    torch.set_num_threads(1)
    cfg = load(config_file)
    size = training_size(cfg)
    memory = training_step_memory_mib(cfg, size)
    return {"size": list(size), "step_memory_mib": memory, **count_step(cfg, size)}


def expect(measured: dict[str, float], cfg: CfgNode, images: int, tflops: float) -> dict:
    """What follows from the measurements for a training on GPUs."""
    # Weights in float32; of those that are trained also a gradient and two moments.
    fixed = 4 * (measured["parameters"] + 3 * measured["trained_parameters"]) / _MIB
    an_image = max(0.0, measured["step_memory_mib"] - fixed)
    seen = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
    return {
        "expected_memory_gib": (fixed + images * an_image) / 1024,
        "expected_gpu_hours": seen * measured["teraflops_an_image"] / tflops / 3600,
    }


def measure_in_process(config_file: str) -> dict[str, float]:
    """:func:`measure` in a new process: a process' peak memory is that of all it has done."""
    command = [sys.executable, __file__, "--measure", config_file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip() or f"{config_file}: the measuring process failed")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print one row a config, and the same figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", help="YAML files of models")
    parser.add_argument("--images", type=int, default=4, help="on a GPU at once (default 4)")
    parser.add_argument(
        "--tflops", type=float, default=20.0, help="a GPU sustains, an assumption (default 20)"
    )
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with user_errors():
        if args.measure:
            print(json.dumps(measure(args.configs[0])))
            return
        records = {}
        for path in tqdm(args.configs, desc="configs", disable=None):
            measured = measure_in_process(path)
            records[path] = {**measured, **expect(measured, load(path), args.images, args.tflops)}
    rows = [
        (
            str(Path(path).with_suffix("")).removeprefix("configs/"),
            "{}x{}".format(*r["size"]),
            f"{r['trained_parameters'] / 1e6:.1f} of {r['parameters'] / 1e6:.1f} M",
            f"{r['step_memory_mib']:.0f} MiB",
            f"{r['teraflops_an_image']:.2f}",
            f"{r['expected_memory_gib']:.1f} GiB",
            f"{r['expected_gpu_hours']:.0f}",
        )
        for path, r in records.items()
    ]
    headers = (
        *("config", "image", "trained", "step, 1 image, measured", "teraflops an image, counted"),
        *(f"{args.images} images, expected", f"GPU-hours at {args.tflops:g} TFLOP/s, expected"),
    )
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    print(json.dumps(records))


if __name__ == "__main__":
    main()
