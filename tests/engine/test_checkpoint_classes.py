"""Checkpoints of a model with other classes."""

import logging

import pytest
import torch
from torch import nn

from slotseg.engine.checkpoint import SlotSegCheckpointer, load_weights
from slotseg.errors import CheckpointError
from slotseg.heads import PanopticHead
from slotseg.slots import PeakInitializer


def make_model(classes, reinit_classes=False):
    head = PanopticHead(
        slot_dim=4,
        is_thing=[True] * classes,
        object_threshold=0.5,
        min_area=1,
        reinit_classes=reinit_classes,
    )
    return nn.ModuleDict({"body": nn.Linear(2, 4), "head": head})


@pytest.fixture
def of_nineteen(tmp_path):
    """Path of a checkpoint of 19 classes, and the model in it."""
    model = make_model(19)
    SlotSegCheckpointer(model, str(tmp_path)).save_weights("trained")
    return str(tmp_path / "trained.pth"), model


def start_training(model, path):
    SlotSegCheckpointer(model).load(path, checkpointables=[])


def test_another_number_of_classes_is_told_with_both_and_the_way_out(of_nineteen):
    path, _ = of_nineteen
    message = (
        r"trained\.pth: was trained on 19 classes, but the model has 11, .*"
        "MODEL.HEAD.REINIT_CLASSES True"
    )
    for load in (start_training, load_weights):
        with pytest.raises(CheckpointError, match=message) as raised:
            load(make_model(11), path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("classes", [11, 19])
def test_a_training_can_start_with_a_new_class_layer(of_nineteen, caplog, classes):
    path, trained = of_nineteen
    model = make_model(classes, reinit_classes=True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with caplog.at_level(logging.INFO):
        start_training(model, path)
    for name, parameter in model.named_parameters():
        new = name.startswith("head.classes.3.")
        assert torch.equal(parameter, before[name] if new else trained.get_parameter(name))
    assert f"for 19 classes is left alone; a new one for {classes} classes" in caplog.text


def test_inference_never_runs_with_an_untrained_class_layer(of_nineteen):
    path, trained = of_nineteen
    with pytest.raises(CheckpointError, match="19 classes, but the model has 11"):
        load_weights(make_model(11, reinit_classes=True), path)
    model = make_model(19, reinit_classes=True)
    load_weights(model, path)
    assert torch.equal(model["head"].classes[3].weight, trained["head"].classes[3].weight)


def test_other_differences_are_still_told(of_nineteen):
    path, _ = of_nineteen
    model = make_model(19)
    model["body"] = nn.Linear(3, 4)
    with pytest.raises(CheckpointError, match=r"body.weight \[4, 2\] instead of \[4, 3\]"):
        start_training(model, path)


def make_peaks(classes, reinit_classes=False):
    return nn.ModuleDict(
        {
            "initializer": PeakInitializer(
                num_slots=3,
                num_peaks=2,
                dim=4,
                in_feature="s1",
                in_channels=4,
                channels=8,
                num_classes=classes,
                reinit_classes=reinit_classes,
            ),
            "head": make_model(classes, reinit_classes)["head"],
        }
    )


def test_all_layers_of_classes_start_anew_together(tmp_path, caplog):
    trained = make_peaks(19)
    SlotSegCheckpointer(trained, str(tmp_path)).save_weights("peaks")
    path = str(tmp_path / "peaks.pth")
    with pytest.raises(CheckpointError, match="trained on 19 classes, but the model has 11"):
        start_training(make_peaks(11), path)
    model = make_peaks(11, reinit_classes=True)
    with caplog.at_level(logging.INFO):
        start_training(model, path)
    for name in ("initializer.tower.0.weight", "head.classes.1.weight"):
        assert torch.equal(model.get_parameter(name), trained.get_parameter(name))
    for layer in ("initializer.classes", "head.classes.3"):
        assert f"class layer {layer} for 19 classes is left alone" in caplog.text
