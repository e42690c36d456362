"""Maps of a frozen ViT on disk: exact enough, refused when they do not fit, safe to interrupt."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from slotseg.config import get_cfg
from slotseg.data import build_test_loader, build_train_loader
from slotseg.data.feature_cache import FEATURES, read_index
from slotseg.engine import feature_cache
from slotseg.engine.feature_cache import FeatureCacheWriter, check_weights, weights_digest
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError, DatasetError, SlotSegError

TINY_VIT = str(Path(__file__).with_name("tiny_vit.yaml"))


@pytest.fixture(scope="session")
def vit_data(tmp_path_factory, scene_folder_factory):
    root = tmp_path_factory.mktemp("vit_datasets")
    scene_folder_factory(root / "clevr_generated" / "train", num_scenes=7, seed=0)
    scene_folder_factory(root / "clevr_generated" / "val", num_scenes=3, seed=2)
    return root


@pytest.fixture
def vit_cfg(vit_data, tmp_path, monkeypatch):
    """``vit_cfg(KEY, VALUE, ...)``: a tiny run with a frozen ViT."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(vit_data))

    def make(*overrides, output="run"):
        seed_all(0)
        return get_cfg(TINY_VIT, ["OUTPUT_DIR", str(tmp_path / output), *overrides])

    return make


@pytest.fixture(scope="session")
def made(vit_data, tmp_path_factory):
    """A complete cache in shards of two images; not to be changed."""
    folder = tmp_path_factory.mktemp("cache") / "features"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(vit_data))
        patch.setattr(feature_cache, "SHARD_BYTES", 2 * 2 * (2 * 16 * 8 * 8))
        assert FeatureCacheWriter(get_cfg(TINY_VIT), str(folder)).write(progress=False)
    return folder


@pytest.fixture
def cache(made, tmp_path):
    """A copy that may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "features"))


def train_losses(cfg):
    """The losses of every step, and the scores."""
    seed_all(0)
    trainer = Trainer(cfg)
    losses = []
    step = trainer.run_step

    def run_step():
        step()
        losses.append(float(trainer.storage.latest()["total_loss"][0]))

    trainer.run_step = run_step
    trainer.resume_or_load(resume=False)
    return losses, trainer.train()["clevr_generated_val"]["slots"]


def test_it_holds_what_the_vit_gives_to_half_precision(vit_cfg, made):
    cfg = vit_cfg()
    model = build_model(cfg).eval()
    cached = vit_cfg("MODEL.VIT.CACHE", str(made))
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        for batch in build_test_loader(cached, dataset):
            maps = model.backbone(model.preprocess(batch))
            assert sorted(maps) == ["keys", "s4"]
            for name, wanted in maps.items():
                found = torch.stack([x[FEATURES][name] for x in batch])
                assert found.dtype == torch.float16
                # Half precision has 11 bits.
                torch.testing.assert_close(found.float(), wanted, rtol=2**-10, atol=1e-4)


def test_training_on_it_gives_the_same_losses_and_scores_without_running_the_vit(
    vit_cfg, made, monkeypatch
):
    losses, scores = train_losses(vit_cfg(output="without"))

    def must_not_run(*_):
        raise AssertionError("the ViT ran")

    monkeypatch.setattr("slotseg.backbone.vit.VisionTransformerBackbone.token_maps", must_not_run)
    cached, cached_scores = train_losses(vit_cfg("MODEL.VIT.CACHE", str(made), output="with"))
    assert len(losses) == 8
    assert cached == pytest.approx(losses, rel=5e-3)
    assert cached != losses  # half precision was there
    assert cached_scores["ARI"] == pytest.approx(scores["ARI"], abs=0.05)


def test_training_on_it_under_autocast(vit_cfg, made):
    losses, _ = train_losses(
        vit_cfg("MODEL.VIT.CACHE", str(made), "SOLVER.AMP.ENABLED", "True", "SOLVER.MAX_ITER", "2")
    )
    assert len(losses) == 2 and all(loss > 0 for loss in losses)


def test_a_feature_pyramid_stands_on_the_same_cache(vit_cfg, made):
    pyramid = ("MODEL.BACKBONE.NAME", "build_dinov2_fpn_backbone", "MODEL.VIT_FPN.STRIDES", [2, 4])
    cfg = vit_cfg("MODEL.VIT.CACHE", str(made), *pyramid, "MODEL.VIT_FPN.CHANNELS", "8")
    model = build_model(cfg).eval()
    check_weights(cfg, model)
    batch = next(iter(build_test_loader(cfg, "clevr_generated_val")))
    torch.manual_seed(0)  # slots start at random
    from_cache = model(batch)
    for x in batch:
        del x[FEATURES]
    torch.manual_seed(0)
    for ours, wanted in zip(from_cache, model(batch), strict=True):
        torch.testing.assert_close(ours["slot_masks"], wanted["slot_masks"], rtol=0, atol=0.02)


def test_workers_send_the_same_maps(vit_cfg, made):
    options = ("MODEL.VIT.CACHE", str(made))
    alone = next(iter(build_train_loader(vit_cfg(*options))))
    sent = next(iter(build_train_loader(vit_cfg(*options, "DATALOADER.NUM_WORKERS", "2"))))
    for ours, theirs in zip(alone, sent, strict=True):
        assert ours["file_name"] == theirs["file_name"]
        for name, values in ours[FEATURES].items():
            assert torch.equal(values, theirs[FEATURES][name])


def test_keys_are_left_out_where_the_config_wants_none(vit_cfg, made):
    cfg = vit_cfg("MODEL.VIT.CACHE", str(made), "MODEL.VIT.KEYS", "False")
    assert list(next(iter(build_train_loader(cfg)))[0][FEATURES]) == ["s4"]


def test_the_size_is_known_before_and_right(vit_cfg, made, tmp_path):
    writer = FeatureCacheWriter(vit_cfg(), str(tmp_path / "not_written"))
    assert writer.plan.bytes_per_image == 2 * (16 + 16) * 8 * 8
    assert writer.plan.images == 10
    assert not (tmp_path / "not_written.partial").exists()
    shards = list(made.glob("*.safetensors"))
    # One image of the plan is in one shard of it, here in fewer.
    assert 0 < sum(p.stat().st_size for p in shards) - 10 * 4096 < 1024 * len(shards)
    assert "10 images" in str(writer.plan) and "s4 16 x 8 x 8" in str(writer.plan)


def test_a_run_that_was_stopped_goes_on_behind_its_last_whole_shard(
    vit_cfg, made, tmp_path, monkeypatch
):
    monkeypatch.setattr(feature_cache, "SHARD_BYTES", 2 * 2 * (2 * 16 * 8 * 8))
    folder = tmp_path / "again"
    seen = []

    class Stop(Exception):
        pass

    def maps(self, batch, whole=FeatureCacheWriter._maps):
        seen.extend(x["file_name"] for x in batch)
        if len(seen) > 5:
            raise Stop
        return whole(self, batch)

    one = ("TEST.IMS_PER_BATCH", "1")
    with monkeypatch.context() as patch:
        patch.setattr(FeatureCacheWriter, "_maps", maps)
        with pytest.raises(Stop):
            FeatureCacheWriter(vit_cfg(*one), str(folder)).write(progress=False)
    assert not folder.exists()
    # Five images were asked for, the first of them twice (for its size): two shards are whole.
    partial = tmp_path / "again.partial"
    kept = sorted(partial.glob("*.safetensors"))
    assert len(kept) == 2
    # The second is cut short by a crash of the machine: it is made again.
    kept[1].write_bytes(kept[1].read_bytes()[:-100])
    # A kill in the middle of the third leaves its beginning.
    (partial / "clevr_generated_train-00002.safetensors.partial-1").write_bytes(b"a")
    times = [p.stat().st_mtime_ns for p in kept]
    assert FeatureCacheWriter(vit_cfg(*one), str(folder)).write(progress=False)
    assert not partial.exists()
    assert (folder / kept[0].name).stat().st_mtime_ns == times[0]
    assert read_index(str(folder)) == read_index(str(made))
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in made.iterdir())
    # Once more: nothing to do but to check.
    assert not FeatureCacheWriter(vit_cfg(), str(folder)).write(progress=False)


def test_a_partial_folder_of_another_config_is_not_gone_on_with(vit_cfg, made, tmp_path):
    partial = tmp_path / "new.partial"
    partial.mkdir()
    name = "clevr_generated_train-00000.safetensors"
    shutil.copy(made / name, partial / name)
    (partial / "plan.json").write_text("{}")
    FeatureCacheWriter(vit_cfg(), str(tmp_path / "new")).write(progress=False)
    index = read_index(str(tmp_path / "new"))
    assert [s.count for s in index.datasets["clevr_generated_train"].shards] == [7]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (("INPUT.RANDOM_FLIP", "horizontal"), "INPUT.RANDOM_FLIP"),
        (("INPUT.COLOR_JITTER.HUE", "0.1"), "INPUT.COLOR_JITTER.HUE"),
        (("INPUT.STRONG.LABELED", "True"), "INPUT.STRONG.LABELED"),
        (("SEMI.IMS_PER_BATCH", "2"), "SEMI.IMS_PER_BATCH"),
        (("INPUT.CROP.ENABLED", "True"), "INPUT.CROP.ENABLED"),
        (("INPUT.RESIZE", "shortest_edge"), "INPUT.RESIZE"),
        (("MODEL.META_ARCHITECTURE", "MaskedAutoencoder"), "MaskedAutoencoder"),
        (("MODEL.VIT.UNFROZEN_BLOCKS", "1"), "UNFROZEN_BLOCKS"),
        (("MODEL.VIT.LORA_RANK", "2"), "LORA_RANK"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_cached_is_refused(vit_cfg, tmp_path, override, told):
    with pytest.raises(ConfigError, match=told):
        FeatureCacheWriter(vit_cfg(*override), str(tmp_path / "features"))
    assert list(tmp_path.iterdir()) == []


def test_other_backbones_are_refused(vit_cfg, tmp_path):
    cfg = vit_cfg("MODEL.BACKBONE.NAME", "build_lean_unet_backbone")
    cfg.MODEL.SLOTS.IN_FEATURE = cfg.MODEL.MASK_PRODUCT.IN_FEATURE = "s2"
    with pytest.raises(ConfigError, match="vision transformer"):
        FeatureCacheWriter(cfg, str(tmp_path / "features"))


def edit_index(folder, change):
    path = folder / "index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut_short(folder):
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])


def flip_in_header(folder):
    path = min(folder.glob("clevr_generated_train*.safetensors"))
    path.write_bytes(b"\xff" * 16 + path.read_bytes()[16:])


def other_size(folder):
    edit_index(folder, lambda c: c["datasets"]["clevr_generated_train"]["images"][0].append(0))
    edit_index(
        folder,
        lambda c: c["datasets"]["clevr_generated_train"]["images"].__setitem__(
            0, [c["datasets"]["clevr_generated_train"]["images"][0][0], 1]
        ),
    )


FAULTS = {
    "no folder": (shutil.rmtree, "no cache of features"),
    "index cut": (lambda f: (f / "index.json").write_text('{"format": '), "is damaged"),
    "index empty": (lambda f: (f / "index.json").write_text("[]"), "is damaged"),
    "version": (lambda f: edit_index(f, lambda c: c.update(version=9)), "another format"),
    "shard cut": (cut_short, "cut short"),
    "shard gone": (lambda f: next(f.glob("*.safetensors")).unlink(), "missing"),
    "shard overwritten": (flip_in_header, "damaged"),
    "image changed": (other_size, "has changed since"),
    "image new": (
        lambda f: edit_index(f, lambda c: c["datasets"]["clevr_generated_train"].update(shards=[])),
        "holds no features of",
    ),
    "set new": (
        lambda f: edit_index(f, lambda c: c["datasets"].pop("clevr_generated_train")),
        "clevr_generated_train",
    ),
    "image size": (
        lambda f: edit_index(f, lambda c: c["settings"].update({"INPUT.IMAGE_SIZE": [64, 64]})),
        "INPUT.IMAGE_SIZE",
    ),
    "other vit": (
        lambda f: edit_index(f, lambda c: c["settings"].update({"MODEL.VIT.NAME": "vit_x"})),
        "MODEL.VIT.NAME vit_x",
    ),
    "no keys": (lambda f: edit_index(f, lambda c: c["maps"].pop("keys")), "MODEL.VIT.KEYS"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cache_that_does_not_fit_is_told_in_one_line(vit_cfg, cache, fault):
    damage, told = FAULTS[fault]
    damage(cache)
    with pytest.raises(SlotSegError, match=told) as caught:
        next(iter(build_train_loader(vit_cfg("MODEL.VIT.CACHE", str(cache)))))
    assert "\n" not in str(caught.value)


def test_other_weights_are_refused_in_training_and_in_evaluation(vit_cfg, made):
    cfg = vit_cfg("MODEL.VIT.CACHE", str(made))
    model = build_model(cfg)
    check_weights(cfg, model)
    digest = weights_digest(model.backbone)
    with torch.no_grad():
        model.backbone.vit.norm.bias[0] += 1e-7
    assert weights_digest(model.backbone) != digest
    with pytest.raises(DatasetError, match="other weights"):
        Trainer.test(cfg, model)
    seed_all(1)
    with pytest.raises(DatasetError, match="other weights"):
        Trainer(cfg).train()


def test_values_beyond_half_precision_are_refused(vit_cfg, tmp_path, monkeypatch):
    from slotseg.backbone.vit import VisionTransformerBackbone

    def huge(self, images, whole=VisionTransformerBackbone.token_maps):
        return {name: values * 1e6 for name, values in whole(self, images).items()}

    monkeypatch.setattr(VisionTransformerBackbone, "token_maps", huge)
    with pytest.raises(DatasetError, match="float16"):
        FeatureCacheWriter(vit_cfg(), str(tmp_path / "features"))


def test_a_full_disk_is_told_before_anything_is_computed(vit_cfg, tmp_path, monkeypatch):
    writer = FeatureCacheWriter(vit_cfg(), str(tmp_path / "features"))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match="GB are free"):
        writer.write(progress=False)
    assert not (tmp_path / "features").exists()


def test_a_folder_of_something_else_is_never_overwritten(vit_cfg, cache, tmp_path):
    edit_index(cache, lambda c: c.update(weights="0" * 64))
    before = (cache / "index.json").read_text()
    with pytest.raises(DatasetError, match="other weights"):
        FeatureCacheWriter(vit_cfg(), str(cache)).write(progress=False)
    assert (cache / "index.json").read_text() == before
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(DatasetError, match="no cache of features"):
        FeatureCacheWriter(vit_cfg(), str(other)).write(progress=False)
    assert list(other.iterdir()) == []


def test_a_flipped_bit_is_found_when_the_tool_runs_again(vit_cfg, cache):
    path = min(cache.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        FeatureCacheWriter(vit_cfg(), str(cache)).write(progress=False)


def test_a_disk_that_does_not_keep_what_it_is_given_is_found_at_once(
    vit_cfg, tmp_path, monkeypatch
):
    whole = feature_cache.write_atomically

    def write(path, content):
        if path.endswith(".safetensors"):
            content = content[:-1] + bytes([content[-1] ^ 1])
        whole(path, content)

    monkeypatch.setattr(feature_cache, "write_atomically", write)
    with pytest.raises(DatasetError, match="damaged"):
        FeatureCacheWriter(vit_cfg(), str(tmp_path / "features")).write(progress=False)
    assert not (tmp_path / "features").exists()
