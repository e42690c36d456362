"""What the query models need beside the library: targets, positions, the annealing of masks."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.errors import ConfigError, DatasetError
from slotseg.meta_arch.huggingface import HFEoMT, HFMask2Former
from slotseg.meta_arch.huggingface.eomt import attention_mask_probability
from slotseg.meta_arch.huggingface.positions import GridPositions
from slotseg.meta_arch.huggingface.targets import mask_targets

CPU = torch.device("cpu")


@pytest.fixture
def cfg():
    set_class_metadata("hf_parts", [Category(1, "car", True, (0, 0, 0))])
    return get_cfg(None, ["DATASETS.TRAIN", ("hf_parts",)])


def sample(segment_map, categories, crowd=()):
    number = len(categories)
    return {
        "file_name": "a.png",
        "segment_map": torch.tensor(segment_map),
        "segment_category": torch.tensor(categories, dtype=torch.int64),
        "segment_is_object": torch.ones(number, dtype=torch.bool),
        "segment_is_crowd": torch.tensor([s in crowd for s in range(number)], dtype=torch.bool),
    }


def test_targets_are_one_padded_mask_a_segment():
    masks, classes = mask_targets(sample([[0, 1], [-1, 1]], [5, 3]), (3, 4), CPU)
    assert classes.tolist() == [5, 3]
    assert masks.dtype == torch.float32
    assert masks.tolist() == [
        [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
    ]


def test_targets_leave_out_crowd_and_segments_that_were_cut_away():
    masks, classes = mask_targets(sample([[0, 2, -1]], [5, 6, 7], crowd=[2]), (1, 3), CPU)
    assert classes.tolist() == [5]
    assert masks.tolist() == [[[1, 0, 0]]]


def test_targets_of_an_image_without_segments():
    masks, classes = mask_targets(sample([[-1, -1]], []), (1, 2), CPU)
    assert masks.shape == (0, 1, 2)
    assert classes.shape == (0,)
    assert classes.dtype == torch.int64


def test_targets_need_panoptic_truth():
    with pytest.raises(DatasetError, match=r"b\.png: has no segment_map"):
        mask_targets({"file_name": "b.png"}, (1, 1), CPU)


def test_positions_of_the_trained_grid_are_the_table():
    table = torch.randn(6, 4)
    positions = GridPositions(torch.nn.Parameter(table), (2, 3))
    assert torch.equal(positions(torch.arange(6).unsqueeze(0)), table.unsqueeze(0))
    assert list(positions.state_dict()) == ["weight"]


def test_positions_of_another_grid_are_resampled_in_rows_and_columns():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    table = torch.stack([rows, columns], dim=-1).view(64, 2)
    positions = GridPositions(torch.nn.Parameter(table), (8, 8))
    positions.grid = (4, 16)
    found = positions(torch.arange(64).unsqueeze(0))
    assert found.shape == (1, 64, 2)
    inner = found.view(4, 16, 2)[1:-1, 4:-4]
    # The centre of row r of 4 lies at 2 r + 0.5 of 8, that of column c of 16 at c / 2 - 0.25.
    assert torch.allclose(inner[:, 0, 0], torch.tensor([2.5, 4.5]), atol=1e-5)
    expected = torch.arange(4, 12) / 2 - 0.25
    assert torch.allclose(inner[0, :, 1], expected, atol=0.05)
    found.sum().backward()
    assert positions.weight.grad.abs().sum() > 0


def test_masks_are_annealed_block_after_block():
    def at(progress):
        return attention_mask_probability(torch.tensor(progress), 4).tolist()

    assert at(0.0) == [1.0, 1.0, 1.0, 1.0]
    assert at(1 / 6) == pytest.approx([1.0, 1.0, 1.0, 1.0])
    assert at(0.25) == pytest.approx([0.5**0.9, 1.0, 1.0, 1.0])
    assert at(0.5) == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=1e-5)
    assert at(5 / 6 + 1e-6) == [0.0, 0.0, 0.0, 0.0]
    assert at(1.0) == [0.0, 0.0, 0.0, 0.0]


def test_importing_slotseg_does_not_import_the_library():
    code = "import sys, slotseg; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("model", [HFMask2Former, HFEoMT], ids=lambda model: model.__name__)
def test_without_the_library_the_error_names_the_extra(model, cfg, monkeypatch):
    # What the import system finds for a package that is not installed.
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'pip install "slotseg\[transformers\]"') as caught:
        model(cfg)
    assert "\n" not in str(caught.value)


def test_an_old_library_is_refused(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__="5.9.1.dev0"))
    with pytest.raises(ConfigError, match=r"needs transformers 5\.23 or newer, and 5\.9\.1\.dev0"):
        HFEoMT(cfg)
