#!/usr/bin/env python
"""Measure the spectral initialisation: its eigen-solver beside scipy's, and its share of a step.

solver: slotseg.ops.spectral_clustering.normalized_spectrum on a batch, against scipy's ``eigsh``
        image by image on the same normalised affinity in single precision, with its default
        tolerance and with 1e-5: time an image, and the sine of the largest angle between the
        subspace in front of the largest eigengap and that of LAPACK's dense solver in double
        precision.
step:   the whole initialiser (graph, spectrum, clusters, seeds) within training steps of a config.

The affinities are of features with planted parts and noise, one graph with a wide eigengap and one
with a narrow one. One thread a side; time is the processor's, so that other programs on the machine
count little. Prints tables, then the same figures as one line of JSON.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slotseg  # noqa: F401, I001  before anything can import detectron2

import argparse
import json
import time

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import torch
from detectron2.modeling import build_model
from torch import Tensor
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.engine.optimizer import build_optimizer
from slotseg.engine.precision import build_autocast
from slotseg.ops.affinity import cosine_affinity
from slotseg.ops.spectral_clustering import normalized_spectrum

PARTS, CHANNELS = 6, 384
# Deviation of the noise on features of unit deviation, by the width of the eigengap.
NOISE = {"wide": 2.0, "narrow": 4.0}


def planted_features(batch: int, size: int, noise: float) -> Tensor:
    """``[batch, size, CHANNELS]``: every patch is the centre of its part plus noise."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(batch, PARTS, CHANNELS, generator=generator)
    part = torch.randint(PARTS, (batch, size, 1), generator=generator).expand(-1, -1, CHANNELS)
    return centers.gather(1, part) + noise * torch.randn(batch, size, CHANNELS, generator=generator)


def normalized(affinity: Tensor) -> np.ndarray:
    """``D^-1/2 W D^-1/2``, ``[B, N, N]`` float32, given to the peer ready-made."""
    scale = affinity.sum(-1).rsqrt()
    return (scale[:, :, None] * affinity * scale[:, None, :]).numpy()


def subspace_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Sine of the largest angle between the spans of ``[N, k]`` and the orthonormal ``[N, k]``."""
    found = np.linalg.qr(found.astype(np.float64))[0]
    return float(np.linalg.norm(found - exact @ (exact.T @ found), ord=2))


def best_time(call, rounds: int) -> tuple[float, object]:
    """Shortest of ``rounds`` calls in seconds, and the last result."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        result = call()
        seconds.append(time.process_time() - began)
    return min(seconds), result


def measure_solver(size: int, gap: str, options: argparse.Namespace) -> dict:
    affinity = cosine_affinity(planted_features(options.batch, size, NOISE[gap]))
    matrices = normalized(affinity)

    def peer(tolerance: float) -> list[np.ndarray]:
        return [
            scipy.sparse.linalg.eigsh(matrix, options.count, which="LA", tol=tolerance)[1][:, ::-1]
            for matrix in matrices
        ]

    ours, (_, vectors) = best_time(
        lambda: normalized_spectrum(affinity, options.count), options.rounds
    )
    exact_time, exact_peer = best_time(lambda: peer(0.0), options.rounds)
    loose_time, loose_peer = best_time(lambda: peer(1e-5), options.rounds)
    # One image suffices for the oracle, which takes N^3.
    top = [size - PARTS - 1, size - 1]
    values, exact = scipy.linalg.eigh(matrices[0].astype(np.float64), subset_by_index=top)
    exact = exact[:, 1:]
    return {
        "patches": size,
        "gap": round(float(values[1] - values[0]), 3),
        "ours_ms": 1000 * ours / options.batch,
        "eigsh_ms": 1000 * exact_time / options.batch,
        "eigsh_1e-5_ms": 1000 * loose_time / options.batch,
        "ours_error": subspace_error(vectors[0, :, :PARTS].numpy(), exact),
        "eigsh_error": subspace_error(exact_peer[0][:, :PARTS], exact),
        "eigsh_1e-5_error": subspace_error(loose_peer[0][:, :PARTS], exact),
    }


def measure_step(options: argparse.Namespace) -> dict:
    """Seconds of the initialiser's forward within whole training steps; its backward is a product
    of small matrices."""
    cfg = get_cfg(options.config_file, ["MODEL.SLOTS.INITIALIZER.NAME", "SpectralInitializer"])
    cfg.merge_from_list(["MODEL.VIT.WEIGHTS", "", "SEED", 0])
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer, autocast = build_optimizer(cfg, model), build_autocast(cfg, torch.device("cpu"))
    height, width = cfg.INPUT.IMAGE_SIZE
    batch = [
        {
            # Squares of one colour each: images have parts, noise has none.
            "image": torch.randint(0, 256, (3, height // 32, width // 32), dtype=torch.uint8)
            .repeat_interleave(32, dim=1)
            .repeat_interleave(32, dim=2),
            "segment_map": torch.randint(0, 6, (height, width)),
        }
        for _ in range(cfg.SOLVER.IMS_PER_BATCH)
    ]
    inside: list[float] = []
    forward = model.initializer.forward

    def timed(*args):
        began = time.process_time()
        result = forward(*args)
        inside.append(time.process_time() - began)
        return result

    model.initializer.forward = timed
    steps = []
    for _ in tqdm(range(options.rounds + 1), desc="training steps", disable=None):
        began = time.process_time()
        with autocast():
            loss = sum(model(batch).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps.append(time.process_time() - began)
    # The first step warms up.
    step, initializer = float(np.median(steps[1:])), float(np.median(inside[1:]))
    return {
        "step_ms": 1000 * step,
        "initializer_ms": 1000 * initializer,
        "share": initializer / step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, nargs="+", default=[256, 1024, 2738])
    parser.add_argument("--batch", type=int, default=4, help="images at once")
    parser.add_argument("--count", type=int, default=12, help="eigenvectors")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; the shortest counts")
    parser.add_argument("--config-file", default="configs/clevr/ladder/2_spectral.yaml")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure_solver(size, gap, options)
        for size in tqdm(options.patches, desc="solver", disable=None)
        for gap in NOISE
    ]
    print("| patches | gap | ours | eigsh | eigsh, tol 1e-5 | ratio | error ours / eigsh / 1e-5 |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        fastest = min(row["eigsh_ms"], row["eigsh_1e-5_ms"])
        errors = (row["ours_error"], row["eigsh_error"], row["eigsh_1e-5_error"])
        print(
            f"| {row['patches']} | {row['gap']:.2f} | {row['ours_ms']:.1f} ms "
            f"| {row['eigsh_ms']:.1f} ms | {row['eigsh_1e-5_ms']:.1f} ms "
            f"| {fastest / row['ours_ms']:.1f}x | {' / '.join(f'{e:.0e}' for e in errors)} |"
        )
    step = measure_step(options)
    print(
        f"\nInitialiser: {step['initializer_ms']:.0f} of {step['step_ms']:.0f} ms a training step "
        f"({step['share']:.1%}), {options.config_file}"
    )
    print(json.dumps({"solver": rows, "step": step}))


if __name__ == "__main__":
    main()
