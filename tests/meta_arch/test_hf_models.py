"""Mask2Former and EoMT of the transformers package behind this project's input and output."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.engine.checkpoint import SlotSegCheckpointer, load_weights
from slotseg.errors import CheckpointError, ConfigError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the transformers extra is missing"
)

SIZE = (40, 72)
NAMES = [("road", False), ("sky", False), ("car", True), ("person", True)]
MODELS = ["mask2former", "eomt"]
HF = "MODEL.HUGGINGFACE"
TINY = {
    "mask2former": {
        "backbone_config": {
            "model_type": "swin",
            "embed_dim": 16,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 4, 8],
            "drop_path_rate": 0.0,
            "window_size": 4,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        "feature_size": 32,
        "mask_feature_size": 32,
        "hidden_dim": 32,
        "encoder_layers": 1,
        "encoder_feedforward_dim": 64,
        "decoder_layers": 3,
        "dim_feedforward": 64,
        "num_attention_heads": 4,
        "num_queries": 12,
        "train_num_points": 256,
    },
    "eomt": {
        "image_size": 64,
        "patch_size": 8,
        "hidden_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_blocks": 2,
        "num_upscale_blocks": 1,
        "num_queries": 12,
        "train_num_points": 256,
    },
}
ARCHITECTURES = {"mask2former": "HFMask2Former", "eomt": "HFEoMT"}


@pytest.fixture(scope="module", autouse=True)
def _sets():
    categories = [Category(i, name, thing, (i, i, i)) for i, (name, thing) in enumerate(NAMES)]
    set_class_metadata("hf_street", categories)
    set_class_metadata("hf_renamed", [*categories[:3], Category(3, "dog", True, (0, 0, 0))])
    set_class_metadata("hf_things", categories[2:])


def make_cfg(kind, described=None, dataset="hf_street", overrides=()):
    cfg = get_cfg(None, ["MODEL.META_ARCHITECTURE", ARCHITECTURES[kind], "MODEL.DEVICE", "cpu"])
    cfg.DATASETS.TRAIN = (dataset,)
    described = TINY[kind] if described is None else described
    cfg.MODEL.HUGGINGFACE.CONFIG.merge_from_other_cfg(type(cfg)(described))
    cfg.merge_from_list(list(overrides))
    return cfg


def build(kind, described=None, dataset="hf_street", overrides=()):
    return build_model(make_cfg(kind, described, dataset, overrides))


def make_sample(size=SIZE, number=0, scale=1, empty=False):
    """Two halves of stuff and two boxes, each in a colour of its own, one void corner."""
    height, width = size
    segment_map = torch.zeros(size, dtype=torch.int64)
    segment_map[: height // 2] = 1
    left = 6 + 12 * number
    segment_map[height // 2 : height - 4, left : left + 16] = 2
    segment_map[8:28, width - 16 : width - 6] = 3
    segment_map[:4, :4] = -1
    colors = torch.tensor([[40, 40, 40], [90, 150, 250], [250, 30, 30], [30, 220, 60], [0, 0, 0]])
    image = colors[segment_map].permute(2, 0, 1).to(torch.uint8).contiguous()
    category = torch.arange(4)
    if empty:
        segment_map = torch.full(size, -1, dtype=torch.int64)
        category = category[:0]
    return {
        "file_name": f"{number}.png",
        "image": image,
        "height": height * scale,
        "width": width * scale,
        "segment_map": segment_map,
        "segment_category": category,
        "segment_is_object": category >= 2,
        "segment_is_crowd": torch.zeros(len(category), dtype=torch.bool),
    }


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    """A model after some steps on two pictures, with the losses on the way."""
    torch.manual_seed(0)
    kind = request.param
    model = build(kind, overrides=["SOLVER.MAX_ITER", 200]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    batch = [make_sample(number=0), make_sample(number=1)]
    totals = []
    for _ in range(60):
        losses = model(batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return kind, model, totals


def test_the_loss_falls(trained):
    _, _, totals = trained
    assert sum(totals[-5:]) < 0.6 * sum(totals[:5])


def test_a_trained_model_finds_what_it_was_shown(trained):
    kind, model, _ = trained
    model.object_threshold, model.overlap_threshold = 0.3, 0.3
    sample = make_sample(number=0, scale=2)
    with torch.no_grad():
        ids, segments = model.eval()([sample])[0]["panoptic_seg"]
    assert ids.shape == (80, 144)
    assert ids.dtype == torch.int32
    assert sorted(s["id"] for s in segments) == sorted(set(ids.unique().tolist()) - {0})
    for segment in segments:
        assert segment["area"] == int((ids == segment["id"]).sum())
        assert segment["isthing"] == NAMES[segment["category_id"]][1]
        assert 0.3 < segment["score"] <= 1.0
    stuff = [s["category_id"] for s in segments if not s["isthing"]]
    assert len(stuff) == len(set(stuff))
    # The two halves, seen from far enough.
    category = torch.full((len(segments) + 1,), -1)
    for segment in segments:
        category[segment["id"]] = segment["category_id"]
    truth = sample["segment_map"].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert (category[ids.long()] == truth)[truth >= 0].float().mean() > 0.8


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", MODELS)
def test_one_training_step(kind, amp):
    model = build(kind).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = model([make_sample(), make_sample((32, 64))])
    names = {"loss_cross_entropy", "loss_mask", "loss_dice"}
    assert set(losses) == names | {f"{name}_auxiliary" for name in names}
    assert all(loss.dtype == torch.float32 and loss.dim() == 0 for loss in losses.values())
    assert all(loss > 0 and torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    # Distributed training hangs on these.
    assert without == []


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with_another"])
@pytest.mark.parametrize("kind", MODELS)
def test_images_without_segments_train(kind, others):
    model = build(kind).train()
    losses = model([make_sample(empty=True), *[make_sample()] * others])
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert (losses["loss_mask"] == 0) == (others == 0)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", MODELS)
def test_images_without_segments_teach_nothing(kind):
    model = build(kind).train()
    batch = [make_sample(empty=True), make_sample()]
    images = model.preprocess(batch)
    layers = model.predict_layers(images.tensor)
    total = sum(model.compute_losses(layers, batch, images).values())
    for gradient in torch.autograd.grad(total, [classes for classes, _ in layers]):
        assert (gradient[0] == 0).all() and (gradient[1] != 0).any()

    sum(model(batch[:1]).values()).backward()
    # Zero, but there: distributed training hangs on others.
    assert all((p.grad == 0).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", MODELS)
def test_more_segments_than_queries_train(kind):
    described = {**TINY[kind], "num_queries": 2}
    losses = build(kind, described).train()([make_sample()])
    assert torch.isfinite(sum(losses.values()))


@pytest.mark.parametrize("kind", MODELS)
def test_images_of_any_size_give_maps_of_the_wanted_size(kind):
    model = build(kind, overrides=[f"{HF}.OBJECT_THRESHOLD", 0.0]).eval()
    samples = [make_sample((33, 50)), make_sample((64, 41), scale=3)]
    with torch.no_grad():
        outputs = model(samples)
        alone = model([{"image": samples[0]["image"]}])
    shapes = [tuple(output["panoptic_seg"][0].shape) for output in outputs]
    assert shapes == [(33, 50), (192, 123)]
    assert alone[0]["panoptic_seg"][0].shape == (33, 50)


@pytest.mark.parametrize("kind", MODELS)
def test_pixel_probabilities_on_request(kind):
    model = build(kind, overrides=[f"{HF}.OBJECT_THRESHOLD", 0.0]).eval()
    samples = [make_sample((33, 50)), {**make_sample((64, 41)), "want_pixel_probs": True}]
    with torch.no_grad():
        plain, asked = model(samples)
    assert "pixel_probs" not in plain
    probs = asked["pixel_probs"]
    assert probs.shape == (len(model.is_thing) + 1, *asked["panoptic_seg"][0].shape)
    assert torch.allclose(probs.sum(dim=0), torch.ones(probs.shape[1:]), atol=1e-5)
    assert all(0.0 < s["confidence"] <= s["score"] for s in asked["panoptic_seg"][1])


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_confident_gives_an_empty_map(kind):
    model = build(kind, overrides=[f"{HF}.OBJECT_THRESHOLD", 1.0]).eval()
    with torch.no_grad():
        ids, segments = model([make_sample()])[0]["panoptic_seg"]
    assert not ids.any()
    assert segments == []


@pytest.mark.parametrize("kind", MODELS)
def test_a_set_of_things_only(kind):
    model = build(kind, dataset="hf_things")
    assert model.is_thing == (True, True)
    assert model.network.class_predictor.out_features == 3


@pytest.mark.parametrize("kind", MODELS)
def test_checkpoints_hold_everything(kind, tmp_path):
    torch.manual_seed(1)
    model = build(kind)
    model.train()([make_sample()])
    SlotSegCheckpointer(model, str(tmp_path)).save_weights("model")
    torch.manual_seed(2)
    other = build(kind)
    load_weights(other, str(tmp_path / "model.pth"))
    assert_same_predictions(model, other)
    if kind == "eomt":
        assert other.iteration == 1


def predict(model, size=(64, 64)):
    pixels = model.preprocess([make_sample(size)]).tensor
    with torch.no_grad():
        return model.eval().predict_layers(pixels)[-1]


def assert_same_predictions(one, other):
    for a, b in zip(predict(one), predict(other), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", MODELS)
def test_a_saved_folder_gives_the_same_model(kind, tmp_path, caplog):
    model = build(kind)
    model.network.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="slotseg"):
        loaded = build(kind, {}, overrides=[f"{HF}.PRETRAINED", str(tmp_path)])
    assert [r for r in caplog.records if r.name.startswith("slotseg")] == []
    assert loaded.network.config.id2label == dict(enumerate(name for name, _ in NAMES))
    assert_same_predictions(model, loaded)


def test_square_images_of_the_trained_size_are_the_librarys_own_eomt(tmp_path):
    import transformers

    model = build("eomt")
    model.network.save_pretrained(tmp_path)
    own = transformers.EomtForUniversalSegmentation.from_pretrained(tmp_path).eval()
    classes, masks = predict(model)
    with torch.no_grad():
        expected = own(model.preprocess([make_sample((64, 64))]).tensor)
    assert torch.equal(classes, expected.class_queries_logits)
    assert torch.equal(masks, expected.masks_queries_logits)


@pytest.mark.parametrize("kind", MODELS)
def test_a_class_layer_of_another_width_starts_anew(kind, tmp_path, caplog):
    model = build(kind)
    model.network.save_pretrained(tmp_path)
    overrides = [f"{HF}.PRETRAINED", str(tmp_path)]
    with caplog.at_level(logging.WARNING, logger="slotseg"):
        loaded = build(kind, {}, dataset="hf_things", overrides=overrides)
    assert "was trained on 4 classes and hf_things has 2" in caplog.text
    assert loaded.network.class_predictor.out_features == 3
    # Everything else is there.
    assert torch.equal(predict(model)[1], predict(loaded)[1])
    things_only = make_sample()
    things_only["segment_category"] = torch.tensor([0, 1, 0, 1])
    assert torch.isfinite(sum(loaded.train()([things_only]).values()))


def test_classes_of_other_names_are_told(tmp_path, caplog):
    build("eomt").network.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="slotseg"):
        build("eomt", {}, dataset="hf_renamed", overrides=[f"{HF}.PRETRAINED", str(tmp_path)])
    assert "class 3: person and dog" in caplog.text


def test_annealing_follows_the_training():
    model = build("eomt", overrides=["SOLVER.MAX_ITER", 2]).train()
    sample = [make_sample()]
    model(sample)
    assert model.network.attn_mask_probs.tolist() == [1.0, 1.0]
    model(sample)
    # Half of the training: block 0 of 2 is done, block 1 begins.
    assert model.network.attn_mask_probs.tolist() == pytest.approx([0.0, 1.0])
    model(sample)
    assert model.network.attn_mask_probs.tolist() == [0.0, 0.0]
    model.eval()(sample)
    assert model.iteration == 3


def test_annealing_can_be_switched_off():
    model = build("eomt", overrides=["SOLVER.MAX_ITER", 1, f"{HF}.MASK_ANNEALING", False]).train()
    for _ in range(3):
        model([make_sample()])
    assert model.network.attn_mask_probs.tolist() == [1.0, 1.0]
    assert "iteration" not in model.state_dict()


def with_option(kind, path, value):
    described = {**TINY[kind]}
    if path.startswith("backbone_config."):
        name = path.removeprefix("backbone_config.")
        described["backbone_config"] = {**described["backbone_config"], name: value}
    else:
        described[path] = value
    return described


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("num_querys", 3, r"CONFIG\.num_querys: mask2former has no .* did you mean num_queries"),
        ("backbone_config.depth", [1], r"backbone_config\.depth: swin has no .* mean depths"),
        ("num_queries", "many", r"CONFIG: mask2former cannot be built: .*num_queries"),
        ("feature_size", 33, r"CONFIG: mask2former cannot be built"),
        ("backbone_config.model_type", "nonsense", r"CONFIG: mask2former cannot be built"),
    ],
    ids=["key", "backbone_key", "type", "value", "backbone"],
)
def test_descriptions_that_do_not_work(path, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build("mask2former", with_option("mask2former", path, value))
    assert "\n" not in str(caught.value)


def test_a_backbone_without_its_kind():
    described = {**TINY["mask2former"], "backbone_config": {"depths": [1]}}
    with pytest.raises(ConfigError, match=r"backbone_config: has no model_type"):
        build("mask2former", described)


@pytest.mark.parametrize("kind", MODELS)
def test_neither_weights_nor_description(kind):
    with pytest.raises(ConfigError, match="describes no network"):
        build(kind, {})


def test_no_training_set():
    cfg = make_cfg("eomt")
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ConfigError, match="DATASETS.TRAIN is empty"):
        build_model(cfg)


def test_weights_of_another_kind_of_model(tmp_path):
    build("eomt").network.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a eomt model.*asks for mask2former"):
        build("mask2former", {}, overrides=[f"{HF}.PRETRAINED", str(tmp_path)])


def test_a_hub_name_without_a_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="someone/some-model is neither") as caught:
        build("eomt", {}, overrides=[f"{HF}.PRETRAINED", "someone/some-model"])
    assert "\n" not in str(caught.value)


def test_a_damaged_folder(tmp_path):
    build("eomt").network.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="neither a readable folder"):
        build("eomt", {}, overrides=[f"{HF}.PRETRAINED", str(tmp_path)])


def test_a_folder_whose_weights_do_not_fit_its_description(tmp_path):
    model = build("eomt")
    model.network.save_pretrained(tmp_path)
    model.network.config.num_queries = 5
    model.network.config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"1 weights have another shape .*query\.weight"):
        build("eomt", {}, overrides=[f"{HF}.PRETRAINED", str(tmp_path)])


def test_a_folder_with_none_of_the_weights(tmp_path):
    from safetensors.torch import save_file

    build("eomt").network.save_pretrained(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="holds none of the network's weights"):
        build("eomt", {}, overrides=[f"{HF}.PRETRAINED", str(tmp_path)])


def save_classifier(folder, **changes):
    import transformers

    described = {**TINY["mask2former"]["backbone_config"], **changes}
    described.pop("out_features")
    config = transformers.AutoConfig.for_model(described.pop("model_type"), **described)
    classifier = transformers.AutoModelForImageClassification.from_config(config)
    classifier.save_pretrained(folder)
    return classifier


def test_a_new_mask2former_with_the_backbone_of_a_classifier(tmp_path):
    classifier = save_classifier(tmp_path)
    model = build("mask2former", overrides=[f"{HF}.BACKBONE", str(tmp_path)])
    loaded = model.network.model.pixel_level_module.encoder.swin.state_dict()
    for name, value in classifier.swin.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_a_backbone_of_another_shape(tmp_path):
    save_classifier(tmp_path, embed_dim=24, num_heads=[1, 1, 2, 4])
    with pytest.raises(CheckpointError, match=r"HUGGINGFACE\.BACKBONE: .* have another shape"):
        build("mask2former", overrides=[f"{HF}.BACKBONE", str(tmp_path)])


def test_a_backbone_of_another_kind(tmp_path):
    build("eomt").network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"HUGGINGFACE\.BACKBONE: "):
        build("mask2former", overrides=[f"{HF}.BACKBONE", str(tmp_path)])
