"""All that SlotSeg knows about versions of Detectron2, NumPy, Pillow and setuptools.

Importing this module prepares the interpreter so that both Detectron2 v0.5 (the Python of its
PyPI sdist, without compiled operators) and today's main branch import and run. It has to happen
before the first ``import detectron2``; ``slotseg/__init__.py`` sees to that.

Each preparation is made only where it is missing, changes nothing on a second call, and looks at
features rather than at version numbers wherever it can:

==========================================  ======================================================
what Detectron2 uses                        what is done when it is not there
==========================================  ======================================================
``detectron2._C`` at import (v0.5)          a stand-in whose operators raise when they are called
``COCOeval_opt`` (v0.5, needs ``_C``)       pycocotools' own ``COCOeval``, same scores
``numpy.int`` and its like (v0.5)           Python's own types, which is what they were
``PIL.Image.LINEAR`` (v0.5)                 ``PIL.Image.BILINEAR``, its later name
``pkg_resources.resource_filename`` (both)  the same through :mod:`importlib.resources`, visible
                                            to ``detectron2.model_zoo`` only
``panopticapi.utils.rgb2id`` (both, by an   the same sum, visible to that module only
import of ``projects.panoptic_deeplab``)
``torch.jit.script``, ``torch.meshgrid``    their deprecations are not reported: no user can act on
(old ways to call them)                     them
==========================================  ======================================================
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.resources
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import PIL.Image

INSTALL_COMMAND = "python tools/install_detectron2.py"

_OPS = "detectron2._C"
_FAST_COCO_EVAL = "detectron2.evaluation.fast_eval_api"
_MODEL_ZOO = "detectron2.model_zoo.model_zoo"
_PANOPTIC_DEEPLAB_MAPPER = "detectron2.projects.panoptic_deeplab.dataset_mapper"

# The aliases that NumPy 1.24 removed and Detectron2 v0.5 still uses. Each was this very type.
_NUMPY_ALIASES = {"bool": bool, "int": int, "float": float, "object": object, "str": str}


def prepare() -> None:
    """Make ``import detectron2`` work in this interpreter; safe to call again.

    Raises:
        ModuleNotFoundError: Detectron2 is not installed; the message says how to install it.
    """
    folder = _detectron2_folder()
    _restore_numpy_aliases()
    _restore_pillow_names()
    warnings.filterwarnings(
        "ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning
    )
    warnings.filterwarnings(
        "ignore", message=r"torch\.meshgrid: in an upcoming release", category=UserWarning
    )
    if not any(isinstance(finder, _Detectron2Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Detectron2Finder(needs_ops_stand_in=_needs_ops(folder)))


def detectron2_version() -> tuple[int, int]:
    """Major and minor version of the installed Detectron2; today's main calls itself (0, 6)."""
    import detectron2

    major, minor = re.findall(r"\d+", detectron2.__version__)[:2]
    return int(major), int(minor)


def has_compiled_ops() -> bool:
    """Whether Detectron2's compiled operators (deformable convolution, rotated boxes) exist."""
    return _find_compiled_ops(_detectron2_folder())


def _detectron2_folder() -> Path:
    """The folder of the ``detectron2`` package, found without importing it."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"Detectron2 is not installed in this environment: run `{INSTALL_COMMAND}` "
            "(no compiler needed)",
            name="detectron2",
        )
    return Path(list(spec.submodule_search_locations)[0])


def _find_compiled_ops(folder: Path) -> bool:
    return importlib.machinery.PathFinder.find_spec(_OPS, [str(folder)]) is not None


def _needs_ops(folder: Path) -> bool:
    """Whether this Detectron2 imports ``_C`` unconditionally and does not have it.

    Main guards that import and has fallbacks of its own, which a stand-in would switch off.
    """
    source = folder / "layers" / "deform_conv.py"
    unconditional = re.compile(r"^from detectron2 import _C\b", re.MULTILINE)
    return (
        source.is_file()
        and unconditional.search(source.read_text(encoding="utf-8")) is not None
        and not _find_compiled_ops(folder)
    )


def _restore_numpy_aliases() -> None:
    for name, builtin in _NUMPY_ALIASES.items():
        # Not hasattr: NumPy's module-level __getattr__ warns about some of these names.
        if name not in vars(numpy):
            setattr(numpy, name, builtin)


def _restore_pillow_names() -> None:
    if not hasattr(PIL.Image, "LINEAR"):
        PIL.Image.LINEAR = PIL.Image.BILINEAR


class _MissingOps(ModuleType):
    """Stands for ``detectron2._C``: imports, answers questions, and computes nothing."""

    def get_compiler_version(self) -> str:
        """For ``detectron2.utils.collect_env``, which prints it at the start of a training."""
        return "none: Detectron2 is installed without compiled operators"

    def get_cuda_version(self) -> str:
        """See :meth:`get_compiler_version`."""
        return "none"

    def has_cuda(self) -> bool:
        """See :meth:`get_compiler_version`."""
        return False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(
                f"detectron2._C.{name} is a compiled operator and this Detectron2 is installed "
                "without them; install one built from source "
                "(pip install git+https://github.com/facebookresearch/detectron2.git)"
            )

        return missing


class _MadeModule(importlib.abc.Loader):
    """A loader for a module that is made here instead of read from a file."""

    def __init__(self, make: Callable[[str], ModuleType]) -> None:
        self._make = make

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._make(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run."""


class _Lending(importlib.abc.Loader):
    """Another loader, which finds a missing library importable while it runs its module.

    The stand-ins are withdrawn afterwards: libraries that try to import that library and manage
    without it must not be handed a fraction of it.
    """

    def __init__(self, inner: Any, lent: dict[str, ModuleType]) -> None:
        self._inner = inner
        self._lent = lent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Someone may block the import by ``sys.modules["pkg_resources"] = None``.
        hidden = {name: sys.modules[name] for name in self._lent if name in sys.modules}
        sys.modules.update(self._lent)
        try:
            self._inner.exec_module(module)
        finally:
            for name in self._lent:
                del sys.modules[name]
            sys.modules.update(hidden)


class _Detectron2Finder(importlib.abc.MetaPathFinder):
    """Answers for the few modules of Detectron2 that cannot be imported as they are."""

    def __init__(self, needs_ops_stand_in: bool) -> None:
        self._made: dict[str, Callable[[str], ModuleType]] = {}
        if needs_ops_stand_in:
            self._made = {_OPS: _MissingOps, _FAST_COCO_EVAL: _make_plain_coco_eval}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in self._made:
            loader = _MadeModule(self._made[fullname])
            return importlib.machinery.ModuleSpec(fullname, loader, origin=__name__)
        library, stand_ins = _LENT_TO.get(fullname, ("", None))
        if stand_ins is None or importlib.util.find_spec(library) is not None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Lending(spec.loader, stand_ins())
        return spec


def _make_plain_coco_eval(name: str) -> ModuleType:
    """``detectron2.evaluation.fast_eval_api`` without C++, as main does when ``_C`` is missing."""
    from pycocotools.cocoeval import COCOeval

    module = ModuleType(name)
    module.COCOeval_opt = COCOeval
    return module


def _resource_filename(package: str, resource: str) -> str:
    return str(importlib.resources.files(package).joinpath(resource))


def _pkg_resources() -> dict[str, ModuleType]:
    module = ModuleType("pkg_resources")
    module.resource_filename = _resource_filename
    return {"pkg_resources": module}


def _rgb_to_id(color: Any) -> Any:
    """``panopticapi.utils.rgb2id``: R + 256 G + 65536 B, of an ``[H, W, 3]`` image or a colour."""
    if isinstance(color, numpy.ndarray) and color.ndim == 3:
        wide = color.astype(numpy.int32)
        return wide[:, :, 0] + 256 * wide[:, :, 1] + 65536 * wide[:, :, 2]
    red, green, blue = (int(value) for value in color)
    return red + 256 * green + 65536 * blue


def _panopticapi() -> dict[str, ModuleType]:
    package, utils = ModuleType("panopticapi"), ModuleType("panopticapi.utils")
    utils.rgb2id = _rgb_to_id
    package.utils = utils
    return {"panopticapi": package, "panopticapi.utils": utils}


# Which module is lent which library, where that is not installed.
_LENT_TO = {
    _MODEL_ZOO: ("pkg_resources", _pkg_resources),
    _PANOPTIC_DEEPLAB_MAPPER: ("panopticapi", _panopticapi),
}

prepare()
