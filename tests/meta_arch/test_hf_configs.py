"""The shipped descriptions of query models are those of the published networks, or small."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the transformers extra is missing"
)


@pytest.fixture
def build(project_root):
    def build(name, *overrides):
        categories = [Category(i, f"class {i}", i > 10, (i, i, i)) for i in range(19)]
        set_class_metadata("hf_configs", categories)
        path = project_root / "configs" / "huggingface" / f"base_{name}.yaml"
        overrides = ["DATASETS.TRAIN", ("hf_configs",), "MODEL.DEVICE", "meta", *overrides]
        cfg = get_cfg(str(path), overrides)
        # Shapes only: nothing is allocated, and nothing drawn.
        with torch.device("meta"):
            return build_model(cfg)

    return build


def millions_of_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize("name", ["mask2former_tiny", "eomt_tiny"])
def test_networks_for_a_cpu_are_small(build, name):
    assert millions_of_parameters(build(name)) < 6


def test_mask2former_with_swin_t_is_the_published_network(build):
    model = build("mask2former_swin_t", "MODEL.HUGGINGFACE.BACKBONE", "")
    # Cheng et al. 2022, table 1.
    assert round(millions_of_parameters(model)) == 47
    assert model.network.config.num_queries == 100


def test_eomt_large_is_taken_as_saved(project_root):
    path = project_root / "configs" / "huggingface" / "base_eomt_large.yaml"
    options = get_cfg(str(path)).MODEL.HUGGINGFACE
    assert options.PRETRAINED.startswith("tue-mps/")
    assert not options.CONFIG
