#!/usr/bin/env python3
"""Install Detectron2 without a compiler, or keep the one that is there.

Detectron2 is not on PyPI. An installed one (official main included) is kept. Otherwise the Python
part of v0.5 is taken from the source distribution ``detectron2-cdo==0.5``, whose Python files are
those of the official tag: it is downloaded through the package index that pip is configured for,
checked against a pinned SHA-256, packed as a pure-Python wheel and installed with pip. SlotSeg
calls none of the compiled operators that are left out.

Needs the standard library, pip and setuptools. Nothing of the source distribution is executed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PROJECT = "detectron2-cdo"
VERSION = "0.5"
SHA256 = "53c9e79e9cc943e80419c588ea44b5479507a8628ed14a4e06bd093e29311b18"
FROM_SOURCE = "pip install git+https://github.com/facebookresearch/detectron2.git"

# What setuptools packs. Names and places are those of Detectron2's own setup.py; there are no
# ext_modules and no requirements (SlotSeg's requirements.txt has them).
SETUP_PY = """\
from setuptools import find_packages, setup

projects = {
    "detectron2.projects.point_rend": "projects/PointRend/point_rend",
    "detectron2.projects.deeplab": "projects/DeepLab/deeplab",
    "detectron2.projects.panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}
setup(
    name="detectron2",
    version="VERSION",
    description="Detectron2 v0.5 without its compiled operators",
    url="https://github.com/facebookresearch/detectron2",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["detectron2", "detectron2.*"]) + list(projects),
    package_dir=projects,
    package_data={"detectron2.model_zoo": ["configs/**/*.yaml", "configs/**/*.py"]},
    python_requires=">=3.6",
)
""".replace("VERSION", VERSION)


class InstallError(Exception):
    """Something a user can act on, told in one line."""


def find_installed() -> str | None:
    """Describe the Detectron2 that this Python would import; None if there is none.

    A source tree (a development install, or PYTHONPATH) is taken as it is. In site-packages the
    leftovers of an interrupted installation do not count: pip writes a distribution's records
    last, and every Python file that they name has to exist.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent
    if folder.parent.name in ("site-packages", "dist-packages") and not _is_complete(folder):
        return None
    return f"Detectron2 {_read_version(folder)} in {folder}"


def _is_complete(folder: Path) -> bool:
    for distribution in importlib.metadata.distributions(path=[str(folder.parent)]):
        files = [file for file in distribution.files or [] if file.suffix == ".py"]
        if any(file.as_posix() == "detectron2/__init__.py" for file in files):
            return all(file.locate().exists() for file in files)
    return False


def _read_version(folder: Path) -> str:
    match = re.search(
        r"""^__version__ = ["'](.+)["']""", (folder / "__init__.py").read_text("utf-8"), re.M
    )
    return match.group(1) if match else "of unknown version"


def download_sdist(folder: Path) -> Path:
    """Fetch the pinned source distribution with pip's own index search and network session.

    `pip download` would run the distribution's setup.py, and recent pips refuse it for an optional
    dependency that it declares and nobody needs here. So pip is asked for the link only; its
    index, extra indexes, find-links, certificates, proxies and credentials all apply.
    """
    try:
        from pip._internal.commands import create_command
        from pip._internal.exceptions import PipError
        from pip._vendor.packaging.specifiers import SpecifierSet
    except ImportError as error:
        raise InstallError(f"pip is missing or too old ({error}): python -m ensurepip") from error
    command = create_command("download")
    try:
        with command.main_context():
            options, _ = command.parse_args([PROJECT, "--no-binary", ":all:"])
            session = command.get_default_session(options)
            finder = command._build_package_finder(options, session)
            found = finder.find_best_candidate(PROJECT, SpecifierSet(f"=={VERSION}")).best_candidate
            if found is None:
                raise InstallError(
                    f"{PROJECT}=={VERSION} was not found: the package index that pip is configured "
                    "for does not have it or cannot be reached; give the file with --sdist, or "
                    f"install Detectron2 yourself: {FROM_SOURCE}"
                )
            response = session.get(found.link.url_without_fragment)
            response.raise_for_status()
    except PipError as error:
        raise InstallError(f"pip could not fetch {PROJECT}: {_one_line(error)}") from error
    path = folder / found.link.filename
    path.write_bytes(response.content)
    return path


def check_hash(path: Path, expected: str) -> None:
    """Raise :class:`InstallError` unless the file has the expected SHA-256."""
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise InstallError(
            f"{path.name}: SHA-256 is {actual}, expected {expected}; refused, nothing installed"
        )


def build_wheel(sdist: Path, folder: Path) -> Path:
    """Pack the Python of ``sdist`` as a wheel named detectron2, inside ``folder``."""
    source = folder / "source"
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(source, filter="data")
        else:  # early patch releases of 3.10 and 3.11; the hash has been checked
            archive.extractall(source)
    (root,) = [entry for entry in source.iterdir() if entry.is_dir()]
    for name in ("setup.py", "setup.cfg", "pyproject.toml"):
        (root / name).unlink(missing_ok=True)
    (root / "setup.py").write_text(SETUP_PY, encoding="utf-8")
    wheels = folder / "wheel"
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(root))
    (wheel,) = wheels.glob("detectron2-*.whl")
    return wheel


def install_wheel(wheel: Path) -> None:
    _pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))


def _pip(*arguments: str) -> None:
    """Run pip in this environment; its output is shown only when it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if result.returncode != 0:
        print(result.stdout, file=sys.stderr)
        raise InstallError(f"pip {arguments[0]} failed (its output is above)")


def install(sdist: Path | None = None) -> None:
    """Download (unless ``sdist`` is given), check, pack and install."""
    folder = Path(tempfile.mkdtemp(prefix="detectron2-"))
    try:
        if sdist is None:
            print(f"Downloading {PROJECT}=={VERSION}")
            sdist = download_sdist(folder)
        check_hash(sdist, SHA256)
        print("Building a wheel of its Python files")
        wheel = build_wheel(sdist, folder)
        install_wheel(wheel)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    importlib.invalidate_caches()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sdist", type=Path, help=f"a local {PROJECT}-{VERSION} file instead of a download"
    )
    options = parser.parse_args(arguments)
    installed = find_installed()
    if installed:
        print(f"Keeping {installed}")
        return 0
    try:
        install(options.sdist)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # network errors of pip's session are OSErrors as well
        print(f"error: could not install Detectron2: {_one_line(error)}", file=sys.stderr)
        return 1
    installed = find_installed()
    if not installed:
        print("error: pip installed Detectron2 where this Python does not find it", file=sys.stderr)
        return 1
    print(f"Installed {installed}")
    return 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
