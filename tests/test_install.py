"""Installation: the Detectron2 installer, the pinned requirements, and the make targets."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

# pip, which the download runs inside this process, imports distutils; setuptools comments on that.
pytestmark = pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def installer(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/install_detectron2.py as a module, with pip cut off from every index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    path = project_root / "tools" / "install_detectron2.py"
    spec = importlib.util.spec_from_file_location("install_detectron2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """A tiny source distribution laid out like detectron2-cdo 0.5; its setup.py must not run."""
    files = {
        "LICENSE": "Apache License",
        "PKG-INFO": "Metadata-Version: 2.1\nName: detectron2_cdo\nVersion: 0.5\n",
        "setup.cfg": "[metadata]\nname = something-else\n",
        "setup.py": "raise RuntimeError('executed')",
        "detectron2/__init__.py": '__version__ = "0.5"\n',
        "detectron2/layers/__init__.py": "",
        "detectron2/layers/csrc/vision.cpp": "int main() {}",
        "detectron2/model_zoo/__init__.py": "",
        "detectron2/model_zoo/configs/COCO/a.yaml": "VERSION: 2\n",
        "detectron2/model_zoo/configs/common/b.py": "lazy = 1\n",
        "detectron2/projects/__init__.py": "",
        "projects/PointRend/point_rend/__init__.py": "",
        "projects/DeepLab/deeplab/__init__.py": "",
        "projects/DeepLab/deeplab/loss.py": "",
        "projects/Panoptic-DeepLab/panoptic_deeplab/__init__.py": "",
        "tools/train_net.py": "",
    }
    folder = tmp_path / "links"
    folder.mkdir()
    path = folder / "detectron2_cdo-0.5.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"detectron2_cdo-0.5/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def forbid(*args, **kwargs):
    raise AssertionError("this must not be called")


def test_wheel_has_the_python_and_configs_and_nothing_compiled(installer, sdist, tmp_path):
    wheel = installer.build_wheel(sdist, tmp_path / "build")
    assert wheel.name == "detectron2-0.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == {
        "detectron2/__init__.py",
        "detectron2/layers/__init__.py",
        "detectron2/model_zoo/__init__.py",
        "detectron2/model_zoo/configs/COCO/a.yaml",
        "detectron2/model_zoo/configs/common/b.py",
        "detectron2/projects/__init__.py",
        "detectron2/projects/point_rend/__init__.py",
        "detectron2/projects/deeplab/__init__.py",
        "detectron2/projects/deeplab/loss.py",
        "detectron2/projects/panoptic_deeplab/__init__.py",
    }
    assert any(name.endswith("LICENSE") for name in names - packed)


def test_download_follows_pips_configuration(installer, sdist, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(sdist.parent))
    fetched = installer.download_sdist(tmp_path)
    assert fetched.parent == tmp_path and fetched.read_bytes() == sdist.read_bytes()


def test_an_index_without_the_file_is_told_in_one_line(installer, tmp_path):
    with pytest.raises(installer.InstallError, match="detectron2-cdo==0.5 was not found") as error:
        installer.download_sdist(tmp_path)
    assert "--sdist" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("given", [True, False], ids=["given", "downloaded"])
def test_a_wrong_hash_is_refused(installer, sdist, monkeypatch, capsys, given):
    monkeypatch.setattr(installer, "find_installed", lambda: None)
    monkeypatch.setattr(installer, "build_wheel", forbid)
    monkeypatch.setattr(installer, "_pip", forbid)
    monkeypatch.setenv("PIP_FIND_LINKS", str(sdist.parent))
    assert installer.main(["--sdist", str(sdist)] if given else []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: detectron2_cdo-0.5.tar.gz: SHA-256 is ")
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() in line and installer.SHA256 in line


def test_a_missing_file_is_told_in_one_line(installer, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(installer, "find_installed", lambda: None)
    assert installer.main(["--sdist", str(tmp_path / "none.tar.gz")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "none.tar.gz" in line


def test_the_right_hash_leads_to_an_installation(installer, sdist, monkeypatch):
    installed = []
    monkeypatch.setattr(installer, "find_installed", lambda: "it" if installed else None)
    monkeypatch.setattr(installer, "install_wheel", lambda wheel: installed.append(wheel.name))
    monkeypatch.setattr(installer, "SHA256", hashlib.sha256(sdist.read_bytes()).hexdigest())
    assert installer.main(["--sdist", str(sdist)]) == 0
    assert installed == ["detectron2-0.5-py3-none-any.whl"]


def test_an_installed_detectron2_is_kept_and_named(installer, monkeypatch, capsys):
    monkeypatch.setattr(installer, "download_sdist", forbid)
    monkeypatch.setattr(installer, "_pip", forbid)
    assert installer.main([]) == 0
    import detectron2

    line = capsys.readouterr().out
    assert line.startswith(f"Keeping Detectron2 {detectron2.__version__} in ")
    assert str(Path(detectron2.__file__).parent) in line


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer) -> Path:
    """An installation folder of its own with one package, the only place that is searched."""
    folder = tmp_path / "site-packages"
    package = folder / "detectron2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0.6"\n')
    (package / "more.py").write_text("")
    spec = importlib.util.spec_from_file_location("detectron2", package / "__init__.py")
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda name: spec)
    return folder


def add_records(site_packages: Path) -> None:
    info = site_packages / "detectron2-0.6.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: detectron2\nVersion: 0.6\n")
    (info / "RECORD").write_text("detectron2/__init__.py,,\ndetectron2/more.py,,\n")


def test_a_complete_installation_is_recognised(installer, site_packages):
    add_records(site_packages)
    assert installer.find_installed().startswith("Detectron2 0.6 in ")


def test_files_without_records_are_an_interrupted_installation(installer, site_packages):
    assert installer.find_installed() is None


def test_records_without_files_are_an_interrupted_installation(installer, site_packages):
    add_records(site_packages)
    (site_packages / "detectron2" / "more.py").unlink()
    assert installer.find_installed() is None


def test_a_source_tree_is_kept(installer, site_packages):
    tree = site_packages.rename(site_packages.with_name("checkout"))
    spec = importlib.util.spec_from_file_location("detectron2", tree / "detectron2/__init__.py")
    installer.importlib.util.find_spec = lambda name: spec
    assert str(tree) in installer.find_installed()


def read_pins(path: Path) -> dict[str, str]:
    """Name and exact version of every requirement that applies to this interpreter."""
    pins = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "-r")):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                (specifier,) = requirement.specifier
                assert specifier.operator == "==", line
                pins[requirement.name.lower()] = specifier.version
    return pins


def read_ranges(project_root: Path) -> list[Requirement]:
    """install_requires and the extra `dev` of setup.py, read without running it."""
    calls = ast.walk(ast.parse((project_root / "setup.py").read_text()))
    keywords = {
        keyword.arg: keyword.value
        for call in calls
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "setup"
        for keyword in call.keywords
    }
    runtime = ast.literal_eval(keywords["install_requires"])
    dev = ast.literal_eval(keywords["extras_require"])["dev"]
    return [Requirement(text) for text in runtime + dev]


def test_every_requirement_is_pinned_inside_its_range(project_root):
    pins = read_pins(project_root / "requirements.txt")
    pins |= read_pins(project_root / "requirements-dev.txt")
    ranges = read_ranges(project_root)
    assert len(ranges) > 20
    for requirement in ranges:
        assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement


def test_everything_imported_is_a_requirement(project_root):
    """No module of the package leans on a distribution that an installation may lack."""
    owners = importlib.metadata.packages_distributions()
    known = {requirement.name.lower() for requirement in read_ranges(project_root)}
    # mamba-ssm has to be compiled for a GPU: its kernel is used where it is there, else PyTorch's.
    known |= {"slotseg", "detectron2", "mamba_ssm", "mamba-ssm"}
    checked = set()
    files = [*project_root.glob("slotseg/**/*.py"), *project_root.glob("tools/*.py")]
    files += [*project_root.glob("datasets/*.py"), *project_root.glob("tests/**/*.py")]
    for path in files:
        for name in imported_modules(path) - set(sys.stdlib_module_names) - {"pip"}:
            names = {owner.lower() for owner in owners.get(name, [name])}
            checked |= names
            assert names & known, f"{path}: {name} is of no requirement"
    assert {"torch", "numpy", "pillow"} <= checked


def imported_modules(path: Path) -> set[str]:
    """Top-level names of the absolute imports in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def dry_run(project_root: Path, *arguments: str) -> str:
    """What `make` would do, as a fresh clone would."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))
    }
    for name in ("PYTHON", "VENV", "SEED", "OUTPUT", "DETECTRON2_DATASETS"):
        environment.pop(name, None)
    result = subprocess.run(
        ["make", "--dry-run", "VENV=no-such-folder", *arguments],
        cwd=project_root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def positions(text: str, *parts: str) -> list[int]:
    found = [text.find(part) for part in parts]
    assert -1 not in found, dict(zip(parts, found, strict=True))
    return found


@needs_make
def test_quickstart_takes_the_expected_steps_in_order(project_root):
    steps = dry_run(project_root, "quickstart")
    order = positions(
        steps,
        "python3 -m venv no-such-folder",
        "-m pip install -r requirements.txt",
        "tools/install_detectron2.py",
        "--no-build-isolation --editable .",
        "tools/generate_clevr.py --splits train tune val",
        "tools/train_net.py --config-file configs/clevr/supervised_lean.yaml --resume",
        "tools/report.py --run output/quickstart",
        "Report: output/quickstart/report.html",
    )
    assert order == sorted(order)
    assert "SEED 0 OUTPUT_DIR output/quickstart" in steps
    assert "requirements-dev.txt" not in steps


@needs_make
def test_another_seed_has_a_folder_of_its_own(project_root):
    steps = dry_run(project_root, "quickstart", "SEED=3")
    assert "SEED 3 OUTPUT_DIR output/quickstart-seed3" in steps
    assert "SEED 3 OUTPUT_DIR mine" in dry_run(project_root, "quickstart", "SEED=3", "OUTPUT=mine")


@needs_make
def test_test_target_installs_and_runs_the_suite(project_root):
    steps = dry_run(project_root, "test")
    order = positions(steps, "pip install -r requirements.txt", "-m pytest")
    order.insert(1, steps.find("pip install -r requirements-dev.txt"))
    assert order == sorted(order)


@needs_make
def test_an_installed_environment_is_not_installed_again(project_root, tmp_path):
    for stamp in (".slotseg-installed", ".slotseg-dev-installed"):
        (tmp_path / stamp).touch()
    assert "pip install" not in dry_run(project_root, "test", f"VENV={tmp_path}")


def test_continuous_integration_calls_make_test(project_root):
    script = project_root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_commands_of_the_readme_exist(project_root):
    readme = (project_root / "README.md").read_text()
    makefile = (project_root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = set(re.findall(r"^make ([a-z-]+)", readme, re.M))
    named |= set(re.findall(r"`make ([a-z-]+)[ `]", readme))
    assert {"quickstart", "test"} <= named <= targets
    paths = r"\b(?:tools|datasets|benchmarks|configs)/[\w/.-]+\.(?:py|yaml)"
    for path in re.findall(paths, readme):
        assert (project_root / path).is_file(), path
