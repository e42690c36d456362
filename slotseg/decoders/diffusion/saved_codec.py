"""A trained autoencoder from a checkpoint of the project, or from a folder of diffusers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
import yaml
from detectron2.utils.file_io import PathManager

from slotseg.decoders.diffusion.codec import NETWORKS, ImageCodec, build_codec
from slotseg.errors import CheckpointError, ConfigError
from slotseg.weight_files import load_file

_KEY = "MODEL.DIFFUSION.AUTOENCODER"
# Where the weights lie in a checkpoint of LatentAutoencoder.
_PREFIX = "codec."
# Where pipelines of diffusers keep their autoencoder.
_SUBFOLDERS = ("", "vae", "vqvae")


def load_codec(source: str, *, trust_pickle: bool = False) -> ImageCodec:
    """The autoencoder in ``source``, on the CPU.

    Args:
        source: a checkpoint of a LatentAutoencoder (``.pth``; or ``.safetensors`` with the run's
            ``config.yaml`` beside it), or a folder of diffusers with ``config.json`` and
            ``.safetensors``.
        trust_pickle: accept checkpoints that need Python's unpickler.

    Raises:
        ConfigError: ``source`` is empty.
        CheckpointError: it is missing, damaged, or something else than an autoencoder.
    """
    if not source:
        raise ConfigError(
            f"{_KEY} is empty; train one (tools/train_net.py --config-file "
            "configs/clevr/pretrain/autoencoder.yaml) and give its model_final.pth, or give a "
            "folder of diffusers"
        )
    if PathManager.isdir(source):
        network = _read_folder(source)
        try:
            return ImageCodec(network)
        except ConfigError as error:
            raise CheckpointError(f"{_KEY}: {source}: {error}; give another one") from error
    try:
        data = load_file(source, trust_pickle=trust_pickle)
    except CheckpointError as error:
        raise CheckpointError(
            f"{_KEY}: {error}; give a checkpoint of a LatentAutoencoder or a folder of diffusers"
        ) from error
    codec = build_codec(_description(data, source))
    _load_state(codec, data["model"], source)
    return codec


def _description(data: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """``MODEL.AUTOENCODER`` of the run that made the checkpoint."""
    text = data.get("config")
    beside = os.path.join(os.path.dirname(source), "config.yaml")
    if text is None and PathManager.isfile(beside):
        with PathManager.open(beside, "r") as file:
            text = file.read()
    if text is None:
        raise CheckpointError(
            f"{_KEY}: {source}: does not say which autoencoder it holds; put the run's config.yaml "
            "beside it"
        )
    try:
        model = yaml.safe_load(text)["MODEL"]
        kind, node = model["META_ARCHITECTURE"], model["AUTOENCODER"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{_KEY}: {source}: its config describes no autoencoder; give a checkpoint of a "
            "LatentAutoencoder"
        ) from error
    if kind != "LatentAutoencoder":
        raise CheckpointError(
            f"{_KEY}: {source}: is a checkpoint of {kind}; give one of a LatentAutoencoder"
        )
    return node


def _load_state(codec: ImageCodec, weights: Mapping[str, Any], source: str) -> None:
    own = {
        key.removeprefix(_PREFIX): value
        for key, value in weights.items()
        if key.startswith(_PREFIX) and isinstance(value, torch.Tensor)
    }
    expected = codec.state_dict()
    wrong = [
        key for key, value in expected.items() if key not in own or own[key].shape != value.shape
    ] + [key for key in own if key not in expected]
    if wrong:
        raise CheckpointError(
            f"{_KEY}: {source}: {len(wrong)} weights are missing or of another shape than its "
            f"config says (first: {wrong[0]}); give an unchanged checkpoint of a LatentAutoencoder"
        )
    codec.load_state_dict(own)


def _read_folder(source: str) -> torch.nn.Module:
    import diffusers

    local = PathManager.get_local_path(source)
    folder = next(
        (
            os.path.join(local, name)
            for name in _SUBFOLDERS
            if os.path.isfile(os.path.join(local, name, "config.json"))
        ),
        None,
    )
    if folder is None:
        raise CheckpointError(
            f"{_KEY}: {source}: no config.json in this folder; give one that diffusers' "
            "save_pretrained made of an autoencoder"
        )
    name = _class_name(folder, source)
    try:
        network, report = getattr(diffusers, name).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        # JSON, safetensors and the library itself each raise their own.
        told = " ".join(str(error).split())
        raise CheckpointError(
            f"{_KEY}: {source}: cannot be read as {name} ({told}); it needs config.json and "
            "diffusion_pytorch_model.safetensors of one model"
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{_KEY}: {source}: lacks {len(missing)} weights (first: {missing[0]}); give an "
            "unchanged folder"
        )
    return network


def _class_name(folder: str, source: str) -> str:
    try:
        with PathManager.open(os.path.join(folder, "config.json"), "r") as file:
            name = json.load(file)["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{_KEY}: {source}: config.json names no model") from error
    if name not in NETWORKS.values():
        raise CheckpointError(
            f"{_KEY}: {source}: holds a {name}, expected one of {', '.join(NETWORKS.values())}"
        )
    return name
