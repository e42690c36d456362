#!/usr/bin/env python
"""Compare generated CLEVR-like scenes with a path tracer's pictures of the same scenes.

The path tracer is Blender's, with the scene, materials and shapes of the published generator:

1. a virtual environment with ``pip install bpy==4.2.0`` (Python 3.11); it needs nothing else;
2. a checkout of https://github.com/facebookresearch/clevr-dataset-gen for its
   ``image_generation/data`` folder;
3. python benchmarks/path_traced_clevr.py --blender-python VENV/bin/python --assets DATA --output F

``--output`` becomes a scene folder with the path-traced pictures and their masks, so that a model
trained on generated scenes can be scored on them: with ``--output R/clevr_generated/val``, evaluate
``clevr_generated_val`` under ``DETECTRON2_DATASETS=R``. Can be stopped and run again.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.scene_folder import SceneWriter
from slotseg.data.synthetic.camera import WINDOWS
from slotseg.data.synthetic.clevr import render_scene
from slotseg.data.synthetic.clevr_scene import FOCAL, SceneDescription, sample_scene
from slotseg.engine import user_errors
from slotseg.errors import DatasetError


def describe(scene: SceneDescription, name: str) -> dict:
    """What Blender has to know of a scene."""
    return {
        "name": name,
        "camera": scene.camera.position.tolist(),
        "light_offsets": scene.light_offsets.tolist(),
        "objects": [
            {
                "shape": o.shape,
                "material": o.material,
                "albedo": o.albedo.tolist(),
                "position": o.position,
                "rotation": o.rotation,
            }
            for o in scene.objects
        ],
    }


def path_trace(args: argparse.Namespace, scenes: dict[int, SceneDescription], work: str) -> None:
    """Have Blender render the scenes into ``work``; those that are there are kept."""
    job = {
        "assets": str(args.assets.resolve()),
        "output": work,
        "window": WINDOWS[args.window],
        "image_size": args.image_size,
        "focal": FOCAL,
        "samples": args.samples,
        "threads": args.threads,
        "scenes": [describe(scene, f"{index:06d}") for index, scene in scenes.items()],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(job, file)
        file.flush()
        script = Path(__file__).with_name("blender_scene.py")
        command = [str(args.blender_python), str(script), file.name]
        tail: list[str] = []
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
            tqdm(total=len(scenes), desc="path tracing", unit="scene", disable=None) as bar,
        ):
            for line in process.stdout:
                text = line.decode(errors="replace").strip()
                tail = [*tail[-4:], text]
                bar.update(text.startswith("rendered "))
        if process.returncode:
            raise DatasetError(f"{args.blender_python}: Blender failed ({' / '.join(tail)})")


def main() -> None:
    """Sample, render both ways, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blender-python", type=Path, required=True, help="a Python with bpy")
    parser.add_argument("--assets", type=Path, required=True, help="image_generation/data")
    parser.add_argument("--output", type=Path, required=True, help="scene folder to write")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=3, help="not one of the generated sets'")
    parser.add_argument("--samples", type=int, default=256, help="paths per pixel (default 256)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--window", choices=WINDOWS, default="clevr")
    parser.add_argument("--image-size", nargs=2, type=int, default=(128, 128), metavar=("H", "W"))
    args = parser.parse_args()
    with user_errors():
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Write the path-traced set and print how it differs from the generated one."""
    if not (args.assets / "base_scene.blend").is_file():
        raise DatasetError(f"{args.assets}: no base_scene.blend here; give image_generation/data")
    size = tuple(args.image_size)
    source = {
        "generator": "clevr, path traced",
        "seed": args.seed,
        "window": args.window,
        "samples": args.samples,
    }
    writer = SceneWriter(str(args.output), size, source)
    rngs = {index: np.random.default_rng([args.seed, index]) for index in range(args.scenes)}
    scenes = {index: sample_scene(rng) for index, rng in rngs.items()}
    work = f"{args.output.resolve()}.blender"
    os.makedirs(work, exist_ok=True)
    path_trace(args, scenes, work)

    rows = []
    for index, scene in tqdm(scenes.items(), desc="comparing", unit="scene", disable=None):
        drawn = render_scene(scene, rngs[index], size, args.window)
        image = np.asarray(Image.open(os.path.join(work, f"{index:06d}.png")).convert("RGB"))
        mask = np.load(os.path.join(work, f"{index:06d}.npy"))
        pixels = np.bincount(mask.ravel(), minlength=len(scene.objects) + 1)
        objects = [
            {**entry, "visible_pixels": int(pixels[number])}
            for number, entry in enumerate(drawn.objects, start=1)
        ]
        writer.write(index, image, mask, objects)
        same = drawn.mask == mask
        change = drawn.image.astype(np.float64) - image
        ground, things = same & (mask == 0), same & (mask > 0)
        rows.append(
            {
                "mask_agreement": same.mean(),
                "background_mean_difference": change[ground].mean(),
                "background_absolute_difference": np.abs(change[ground]).mean(),
                "object_mean_difference": change[things].mean(),
                "object_absolute_difference": np.abs(change[things]).mean(),
            }
        )
    writer.finish(args.scenes)
    result = {"benchmark": "path_traced_clevr", "scenes": args.scenes, **source}
    for key in rows[0]:
        result[key] = round(float(np.mean([row[key] for row in rows])), 5)
        print(f"{key:32}{result[key]:10.4f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
