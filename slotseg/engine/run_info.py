"""What a result depends on besides the code: command, versions, machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import detectron2
import torch

import slotseg

_PACKAGES = ("torch", "torchvision", "numpy", "pillow")


def command_line() -> str:
    """The command of this process, ready to paste into a shell."""
    interpreter = "python" if Path(sys.argv[0]).suffix == ".py" else ""
    return " ".join([interpreter, *(shlex.quote(arg) for arg in sys.argv)]).strip()


def versions() -> dict[str, str]:
    """Version of SlotSeg, Python, Detectron2 and the packages that compute."""
    found = {
        "slotseg": slotseg.__version__,
        "python": platform.python_version(),
        "detectron2": detectron2.__version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """Operating system, processor, cores, threads and GPU."""
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
