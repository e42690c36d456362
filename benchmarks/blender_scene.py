"""Render described CLEVR scenes with Blender's path tracer; run by ``path_traced_clevr.py``.

Needs a Python with the ``bpy`` package and the published scene, materials and shapes; it imports
nothing from SlotSeg, so that this Python needs nothing else.

    python blender_scene.py JOB.json

The job lists scenes and says where their pictures go: ``NAME.png`` (8-bit RGB) and ``NAME.npy``
(uint8 [H, W], 0 or the number of the object that each pixel shows).
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

import bpy
import numpy as np

SHAPES = {"cube": "SmoothCube_v2", "sphere": "Sphere", "cylinder": "SmoothCylinder"}
MATERIALS = {"rubber": "Rubber", "metal": "MyMetal"}
LAMPS = ("Lamp_Key", "Lamp_Fill", "Lamp_Back")
FRAME_WIDTH, FRAME_HEIGHT, SENSOR = 320, 240, 32.0


def append(folder: str, file: str, kind: str, name: str) -> None:
    bpy.ops.wm.append(directory=os.path.join(folder, f"{file}.blend", kind, ""), filename=name)


def place_object(assets: str, number: int, entry: dict[str, Any]) -> None:
    shape = SHAPES[entry["shape"]]
    append(os.path.join(assets, "shapes"), shape, "Object", shape)
    thing = bpy.data.objects[shape]
    thing.name = f"object {number}"
    half = entry["position"][2]  # the shapes are 2 units high
    thing.scale = (half, half, half)
    thing.location = entry["position"]
    thing.rotation_euler = (0, 0, math.radians(entry["rotation"]))
    thing.pass_index = number

    material = bpy.data.materials.new(f"material {number}")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    output = nodes.new("ShaderNodeOutputMaterial")
    group = nodes.new("ShaderNodeGroup")
    group.node_tree = bpy.data.node_groups[MATERIALS[entry["material"]]]
    group.inputs["Color"].default_value = (*entry["albedo"], 1)
    material.node_tree.links.new(group.outputs[0], output.inputs["Surface"])
    thing.data.materials.clear()
    thing.data.materials.append(material)


def aim_camera(position: list[float], window: list[float], focal: float) -> None:
    """The camera follows its target by itself; only a part of its frame is rendered."""
    left, top, width, height = window
    camera = bpy.data.objects["Camera"]
    camera.location = position
    camera.data.sensor_fit, camera.data.sensor_width = "HORIZONTAL", SENSOR
    camera.data.lens = focal / width * SENSOR
    camera.data.shift_x = (left + width / 2 - FRAME_WIDTH / 2) / width
    camera.data.shift_y = -(top + height / 2 - FRAME_HEIGHT / 2) / width


def render(job: dict[str, Any], description: dict[str, Any], name: str) -> None:
    assets = job["assets"]
    bpy.ops.wm.open_mainfile(filepath=os.path.join(assets, "base_scene.blend"))
    for group in MATERIALS.values():
        append(os.path.join(assets, "materials"), group, "NodeTree", group)
    aim_camera(description["camera"], job["window"], job["focal"])
    for lamp, offset in zip(LAMPS, description["light_offsets"], strict=True):
        bpy.data.objects[lamp].location = [
            a + b for a, b in zip(bpy.data.objects[lamp].location, offset, strict=True)
        ]
    for number, entry in enumerate(description["objects"], start=1):
        place_object(assets, number, entry)

    scene = bpy.context.scene
    scene.render.resolution_y, scene.render.resolution_x = job["image_size"]
    scene.render.resolution_percentage = 100
    scene.render.threads_mode, scene.render.threads = "FIXED", job["threads"]
    scene.cycles.device = "CPU"
    scene.cycles.samples = job["samples"]
    scene.cycles.use_denoising = False
    # As in the published generator.
    scene.cycles.blur_glossy = 2.0
    scene.cycles.max_bounces = 8

    scene.view_layers[0].use_pass_object_index = True
    scene.use_nodes = True
    tree = scene.node_tree
    tree.nodes.clear()
    layers = tree.nodes.new("CompositorNodeRLayers")
    picture = tree.nodes.new("CompositorNodeComposite")
    tree.links.new(layers.outputs["Image"], picture.inputs["Image"])
    ids = tree.nodes.new("CompositorNodeOutputFile")
    ids.base_path, ids.file_slots[0].path = os.path.dirname(name), os.path.basename(name) + "-ids"
    ids.format.file_format, ids.format.color_depth = "OPEN_EXR", "32"
    tree.links.new(layers.outputs["IndexOB"], ids.inputs[0])
    scene.frame_set(1)
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.filepath = f"{name}.part.png"
    bpy.ops.render.render(write_still=True)

    exr = f"{name}-ids0001.exr"
    image = bpy.data.images.load(exr)
    values = np.array(image.pixels[:], dtype=np.float32)
    height, width = job["image_size"]
    values = values.reshape(height, width, -1)[::-1, :, 0]  # rows run upwards in Blender
    np.save(f"{name}.npy", np.rint(values).astype(np.uint8))
    os.remove(exr)
    os.replace(f"{name}.part.png", f"{name}.png")


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    for entry in job["scenes"]:
        name = os.path.join(job["output"], entry["name"])
        if not os.path.exists(f"{name}.png"):
            render(job, entry, name)
        print(f"rendered {entry['name']}", flush=True)


if __name__ == "__main__":
    main()
