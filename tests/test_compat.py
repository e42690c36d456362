"""The preparations for Detectron2: each alone in a small interpreter, and the real package."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from slotseg import compat

COMPAT_FILE = Path(compat.__file__)
LOAD_COMPAT = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("compat", {str(COMPAT_FILE)!r})
compat = importlib.util.module_from_spec(spec)
def load():
    spec.loader.exec_module(compat)
"""


def run_python(
    code: str, path: Path | None = None, expect_failure: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that has ``path`` in front of its search path."""
    front = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    result = subprocess.run(
        [sys.executable, "-c", front + LOAD_COMPAT + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode != 0) == expect_failure, result.stdout + result.stderr
    return result


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


@pytest.fixture
def old_detectron2(tmp_path: Path) -> Path:
    """A package with the traits of v0.5 that matter here: imports `_C` without asking."""
    package = tmp_path / "detectron2"
    write(package / "__init__.py", '__version__ = "0.5"')
    write(package / "layers" / "__init__.py", "from .deform_conv import _C")
    write(package / "layers" / "deform_conv.py", "from detectron2 import _C\n")
    write(package / "evaluation" / "__init__.py", "")
    write(
        package / "evaluation" / "fast_eval_api.py",
        "from detectron2 import _C\nclass COCOeval_opt: native = _C.COCOeval\n",
    )
    write(package / "model_zoo" / "__init__.py", "")
    write(
        package / "model_zoo" / "model_zoo.py",
        """
        import pkg_resources
        def config(name):
            return pkg_resources.resource_filename("detectron2.model_zoo", name)
        """,
    )
    write(package / "model_zoo" / "configs" / "a.yaml", "VERSION: 2")
    return tmp_path


@pytest.fixture
def new_detectron2(old_detectron2: Path) -> Path:
    """The same with main's traits: `_C` is optional."""
    package = old_detectron2 / "detectron2"
    write(package / "__init__.py", '__version__ = "0.6"')
    guarded = """
        try:
            from detectron2 import _C
        except ImportError:
            _C = "fallback"
        """
    write(package / "layers" / "deform_conv.py", guarded)
    return old_detectron2


def test_it_prepares_without_warnings_and_without_importing_detectron2(old_detectron2):
    run_python(
        """
        import warnings
        warnings.simplefilter("error")
        load()
        assert "detectron2" not in sys.modules and "torch" not in sys.modules
        import numpy, PIL.Image
        assert numpy.array([1.5], dtype=numpy.int)[0] == 1
        assert numpy.array([1], dtype=numpy.float).dtype == "float64"
        assert numpy.array([2], dtype=numpy.bool).dtype == "bool"
        assert numpy.array([2], dtype=numpy.object).dtype == "object"
        assert PIL.Image.LINEAR == PIL.Image.BILINEAR
        """,
        old_detectron2,
    )


def test_existing_names_are_left_alone(old_detectron2):
    run_python(
        """
        import numpy, PIL.Image
        numpy.int, PIL.Image.LINEAR = "mine", "mine too"
        load()
        assert (numpy.int, PIL.Image.LINEAR) == ("mine", "mine too")
        """,
        old_detectron2,
    )


def test_preparing_again_changes_nothing(old_detectron2):
    run_python(
        """
        import warnings
        load()
        before = list(sys.meta_path), list(warnings.filters)
        compat.prepare()
        assert before == (list(sys.meta_path), list(warnings.filters))
        """,
        old_detectron2,
    )


def test_stand_in_imports_and_its_operators_name_themselves(old_detectron2):
    run_python(
        """
        load()
        assert not compat.has_compiled_ops()
        assert compat.detectron2_version() == (0, 5)
        from detectron2.layers import _C
        assert not hasattr(_C, "__path__") and not _C.has_cuda()
        try:
            _C.deform_conv_forward(1, 2, group=3)
        except RuntimeError as error:
            message = str(error)
        assert "detectron2._C.deform_conv_forward" in message and "pip install" in message
        assert "\\n" not in message
        """,
        old_detectron2,
    )


def test_coco_evaluation_falls_back_to_pycocotools(old_detectron2):
    run_python(
        """
        load()
        from detectron2.evaluation.fast_eval_api import COCOeval_opt
        from pycocotools.cocoeval import COCOeval
        assert COCOeval_opt is COCOeval
        """,
        old_detectron2,
    )


def test_compiled_operators_win_over_the_stand_in(old_detectron2):
    write(old_detectron2 / "detectron2" / "_C.py", "COCOeval = 'compiled'")
    run_python(
        """
        load()
        assert compat.has_compiled_ops()
        from detectron2.evaluation.fast_eval_api import COCOeval_opt
        assert COCOeval_opt.native == "compiled"
        """,
        old_detectron2,
    )


def test_optional_operators_stay_missing_so_that_fallbacks_work(new_detectron2):
    run_python(
        """
        load()
        from detectron2.layers import _C
        assert _C == "fallback"
        assert compat.detectron2_version() == (0, 6) and not compat.has_compiled_ops()
        """,
        new_detectron2,
    )


@pytest.mark.parametrize("blocked", [False, True])
def test_pkg_resources_is_lent_to_the_model_zoo_only(old_detectron2, blocked):
    missing = 'sys.modules["pkg_resources"] = None' if blocked else hide_module("pkg_resources")
    run_python(
        f"""
        {missing}
        load()
        from detectron2.model_zoo.model_zoo import config
        assert open(config("configs/a.yaml")).read() == "VERSION: 2"
        try:
            import pkg_resources
        except ImportError:
            pass
        else:
            raise AssertionError("others see the stand-in")
        """,
        old_detectron2,
    )


def test_an_existing_pkg_resources_is_used(old_detectron2):
    write(old_detectron2 / "pkg_resources.py", "resource_filename = lambda *names: '/'.join(names)")
    run_python(
        """
        load()
        from detectron2.model_zoo.model_zoo import config
        assert config("x") == "detectron2.model_zoo/x"
        """,
        old_detectron2,
    )


@pytest.fixture
def project_with_mapper(old_detectron2: Path) -> Path:
    """Panoptic-DeepLab's data mapper, which imports panopticapi for one function."""
    project = old_detectron2 / "detectron2" / "projects" / "panoptic_deeplab"
    write(project.parent / "__init__.py", "")
    write(project / "__init__.py", "from .dataset_mapper import rgb2id")
    write(project / "dataset_mapper.py", "from panopticapi.utils import rgb2id")
    return old_detectron2


def test_panopticapi_is_lent_to_panoptic_deeplab_only(project_with_mapper):
    run_python(
        f"""
        {hide_module("panopticapi")}
        load()
        import numpy
        from detectron2.projects.panoptic_deeplab import rgb2id
        image = numpy.array([[[255, 255, 255], [1, 2, 3]]], numpy.uint8)
        assert rgb2id(image).tolist() == [[256 ** 3 - 1, 1 + 2 * 256 + 3 * 65536]]
        assert rgb2id((255, 1, 0)) == 511 and rgb2id(image[0, 1]) == 197121
        try:
            import panopticapi
        except ImportError:
            pass
        else:
            raise AssertionError("others see the stand-in")
        """,
        project_with_mapper,
    )


def test_an_existing_panopticapi_is_used(project_with_mapper):
    write(project_with_mapper / "panopticapi" / "__init__.py", "")
    write(project_with_mapper / "panopticapi" / "utils.py", "rgb2id = 'its own'")
    run_python(
        """
        load()
        from detectron2.projects.panoptic_deeplab import rgb2id
        assert rgb2id == "its own"
        import panopticapi.utils
        """,
        project_with_mapper,
    )


def hide_module(name: str) -> str:
    """Code after which ``name`` is in no folder of the search path."""
    return (
        "from importlib.machinery import PathFinder as P; find = P.find_spec; "
        f"P.find_spec = lambda n, *a, **k: None if n == {name!r} else find(n, *a, **k)"
    )


def test_a_missing_detectron2_is_told_with_the_command_that_installs_it():
    result = run_python('sys.modules["detectron2"] = None; load()', expect_failure=True)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: Detectron2 is not installed")
    assert compat.INSTALL_COMMAND in last
    assert (COMPAT_FILE.parent.parent / compat.INSTALL_COMMAND.split()[1]).is_file()


def test_everything_that_slotseg_uses_of_detectron2_imports():
    from detectron2 import (  # noqa: F401
        checkpoint,
        config,
        data,
        engine,
        evaluation,
        layers,
        model_zoo,
        modeling,
        projects,
        solver,
        structures,
    )
    from detectron2.projects import deeplab, panoptic_deeplab, point_rend  # noqa: F401
    from detectron2.utils import file_io, visualizer  # noqa: F401
    from detectron2.utils.collect_env import collect_env_info

    assert torch.__version__ in collect_env_info()


def test_the_environment_report_works_where_there_is_a_gpu(monkeypatch):
    """Detectron2 asks its operators about CUDA then; default_setup prints the answer."""
    from detectron2.utils.collect_env import collect_env_info

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A GPU")
    assert "A GPU (arch=9.0)" in collect_env_info()


def test_coco_evaluation_has_an_implementation():
    from detectron2.evaluation import coco_evaluation
    from pycocotools.cocoeval import COCOeval

    assert issubclass(coco_evaluation.COCOeval_opt, COCOeval)
    assert compat.has_compiled_ops() or coco_evaluation.COCOeval_opt is COCOeval


def zoo_config(name: str) -> str:
    from detectron2 import model_zoo

    if not (Path(model_zoo.__file__).parent / "configs").exists():
        pytest.skip("this Detectron2 is a source tree without its model zoo's configs")
    return model_zoo.get_config_file(name)


def test_model_zoo_finds_its_configs():
    from detectron2 import model_zoo

    path = zoo_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml")
    assert "Base-Panoptic-FPN.yaml" in Path(path).read_text()
    with pytest.raises(RuntimeError, match="not available"):
        model_zoo.get_config_file("COCO-PanopticSegmentation/no_such_model.yaml")


def test_visualizer_draws_segments():
    from detectron2.data import MetadataCatalog
    from detectron2.utils.visualizer import ColorMode, Visualizer

    image = np.full((48, 64, 3), 90, np.uint8)
    segments = torch.zeros(48, 64, dtype=torch.int32)
    segments[8:40, 8:30] = 1
    info = [{"id": 1, "category_id": 0, "isthing": True, "area": 704}]
    metadata = MetadataCatalog.get("_compat_test").set(
        thing_classes=["object"], stuff_classes=["background"], thing_colors=[(255, 0, 0)]
    )
    canvas = Visualizer(image, metadata, instance_mode=ColorMode.SEGMENTATION)
    drawn = canvas.draw_panoptic_seg_predictions(segments, info).get_image()
    assert drawn.shape == image.shape
    assert np.abs(drawn[12:36, 12:26].astype(int) - 90).max() > 20
    assert (drawn[:, 40:] == 90).all()


def test_extent_transform_keeps_its_default_interpolation():
    from detectron2.data.transforms import ExtentTransform

    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    cropped = ExtentTransform((2, 2, 6, 6), (4, 4)).apply_image(image)
    assert np.array_equal(cropped, image[2:6, 2:6])


def test_panoptic_fpn_builds_and_predicts():
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_file(zoo_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"))
    cfg.merge_from_list(
        ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18]
        + ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32]
        + ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3]
        + ["MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32]
        + ["MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.RPN.POST_NMS_TOPK_TEST", 20]
        + ["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0]
        + ["MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 0]
    )
    model = build_model(cfg).eval()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        (output,) = model([{"image": image, "height": 32, "width": 48}])
    segments, info = output["panoptic_seg"]
    assert segments.shape == (32, 48)
    assert output["sem_seg"].shape == (3, 32, 48)
    assert info
    assert {segment["id"] for segment in info} == set(segments.unique().tolist()) - {0}
