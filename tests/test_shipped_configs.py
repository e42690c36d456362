"""Every shipped config is built, trained for one step and asked for one prediction."""

from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from slotseg import get_cfg
from slotseg.classes import class_set
from slotseg.engine.checkpoint import FINAL, SlotSegCheckpointer
from slotseg.engine.trainer import Trainer

ROOT = Path(__file__).parents[1] / "configs"
# Bases are no models, ladders and ablations list some.
CONFIGS = sorted(
    path
    for path in ROOT.rglob("*.yaml")
    if not path.name.startswith(("base", "ladder")) and path.parent.name != "ablations"
)
NAMED = [str(path.relative_to(ROOT)) for path in CONFIGS]
# Those with few labels are one model with other shares of labels, see the test of them.
TRAINED = [name for name in NAMED if "/semi/" not in name or name.endswith("_10.yaml")]
# Slot models may be built for one size; the others are asked at this one, to be fast.
SMALL = (64, 128)
# A layer that starts at zero lets no gradient through in the first step, two of them in two.
MOST_STEPS = 4


def load(name):
    """The config as it is shipped, but with small images, few layers where the model leaves the
    choice and few sampled points, and random weights in the place of trained ones."""
    cfg = get_cfg(str(ROOT / name), ["MODEL.DEVICE", "cpu"])
    decoders = cfg.MODEL.DECODERS
    if cfg.MODEL.META_ARCHITECTURE != "SlotSeg" or "SpatialBroadcastDecoder" not in decoders:
        cfg.INPUT.IMAGE_SIZE = cfg.INPUT.CROP.SIZE = SMALL
    cfg.MODEL.VIT.WEIGHTS = ""
    cfg.MODEL.VIT.ARGS.depth = 2
    cfg.LOSSES.MASKS.POINTS = min(cfg.LOSSES.MASKS.POINTS, 64)
    diffusion = cfg.MODEL.DIFFUSION
    diffusion.CHANNELS = [max(16, diffusion.NORM_GROUPS)] * len(diffusion.CHANNELS)
    diffusion.HEAD_DIM = 16
    if diffusion.IMAGE_SIZE:
        diffusion.IMAGE_SIZE = SMALL
    return cfg


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """Path of a checkpoint as the shipped pre-training that writes to the given path makes one."""
    made = {}

    def make(path):
        if path not in made:
            (name,) = (n for n in NAMED if f"{load(n).OUTPUT_DIR}/{FINAL}.pth" == path)
            cfg = load(name)
            folder = tmp_path_factory.mktemp("untrained")
            SlotSegCheckpointer(build_model(cfg), str(folder)).save_weights(
                FINAL, config=cfg.dump()
            )
            made[path] = str(folder / f"{FINAL}.pth")
        return made[path]

    return make


def is_panoptic(cfg):
    return MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("evaluator_type") == "panoptic"


def make_batch(cfg, images=2):
    """Four segments an image: in a panoptic set one of stuff, two objects and a crowd.

    Each has a colour of its own, with little noise: images of noise alone fall into no parts, from
    which a spectral initialisation would learn nothing.
    """
    height, width = cfg.INPUT.IMAGE_SIZE
    generator = torch.Generator().manual_seed(0)
    segment_map = torch.zeros(height, width, dtype=torch.int64)
    segment_map[: height // 2, : width // 2] = 1
    segment_map[height // 2 :, width // 3 :] = 2
    truth = {"segment_map": segment_map}
    if is_panoptic(cfg):
        classes = class_set(cfg.DATASETS.TRAIN[0])
        segment_map[: height // 4, 2 * width // 3 :] = 3
        truth["segment_category"] = torch.tensor(
            [classes.stuff[0], classes.things[0], classes.things[-1], classes.things[0]]
        )
        truth["segment_is_object"] = torch.tensor([False, True, True, False])
        truth["segment_is_crowd"] = torch.tensor([False, False, False, True])
    return [
        {
            "file_name": f"{i}.png",
            "image": (
                torch.randint(0, 230, (4, 3), generator=generator)[segment_map].permute(2, 0, 1)
                + torch.randint(0, 26, (3, height, width), generator=generator)
            ).byte(),
            **truth,
            "height": height,
            "width": width,
        }
        for i in range(images)
    ]


def test_there_are_configs():
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("name", NAMED)
def test_the_sets_are_registered_and_scored_by_a_metric_of_theirs(name):
    cfg = load(name)
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert dataset in DatasetCatalog.list()
    kinds = {
        MetadataCatalog.get(x).get("evaluator_type")
        for x in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    }
    # What makes weights for other models is not scored.
    assert not cfg.DATASETS.TEST or kinds == {cfg.TEST.BEST_METRIC.split("/")[0]}


def test_few_labels_are_shipped_for_every_set_on_a_cpu_and_on_gpus():
    """Configs of one model differ in the share of labels and in the folder alone."""
    shares = {"01": 0.01, "05": 0.05, "10": 0.1, "30": 0.3}
    for dataset in ("bdd100k", "cityscapes", "clevr", "kitti"):
        found = {}
        for path in sorted((ROOT / dataset / "semi").glob("[!b]*.yaml")):
            model, _, share = path.stem.rpartition("_")
            cfg = get_cfg(str(path))
            assert pytest.approx(shares[share]) == cfg.DATASETS.LABELED_FRACTION
            assert cfg.MEAN_TEACHER.ENABLED
            assert cfg.SEMI.IMS_PER_BATCH == cfg.SOLVER.IMS_PER_BATCH
            assert cfg.SEMI.START + cfg.SEMI.RAMP < cfg.SOLVER.MAX_ITER
            cfg.OUTPUT_DIR, cfg.DATASETS.LABELED_FRACTION = "", 1.0
            found.setdefault(model, []).append(cfg)
        assert {"generated" in model for model in found} == {True, False}
        for configs in found.values():
            assert len(configs) == len(shares)
            assert all(cfg == configs[0] for cfg in configs)


def train_step(cfg, model, optimizer, batch):
    with (
        EventStorage(),
        torch.autocast("cpu", torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED),
    ):
        total = sum(model.train()(batch).values())
    assert torch.isfinite(total)
    optimizer.zero_grad()
    total.backward()
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    optimizer.step()


@pytest.mark.parametrize("name", TRAINED)
def test_training_moves_every_parameter_and_inference_gives_segments(name, untrained):
    torch.manual_seed(0)
    cfg = load(name)
    if cfg.MODEL.META_ARCHITECTURE.startswith("HF"):
        pytest.importorskip("transformers")
        if cfg.MODEL.HUGGINGFACE.PRETRAINED or cfg.MODEL.HUGGINGFACE.BACKBONE:
            pytest.skip("starts from weights of the hub; tests/meta_arch checks what it describes")
    if cfg.MODEL.DIFFUSION.AUTOENCODER:
        cfg.MODEL.DIFFUSION.AUTOENCODER = untrained(cfg.MODEL.DIFFUSION.AUTOENCODER)
    model = build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    batch = make_batch(cfg)
    still = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    for _ in range(MOST_STEPS):
        train_step(cfg, model, optimizer, batch)
        now = dict(model.named_parameters())
        still = {n: before for n, before in still.items() if torch.equal(before, now[n])}
        if not still:
            break
    assert not still, list(still)
    with torch.no_grad():
        output = model.eval()(batch[:1])[0]
    if not cfg.DATASETS.TEST:
        assert output["reconstruction"].shape == (3, *cfg.INPUT.IMAGE_SIZE)
        return
    segments, info = output["panoptic_seg"]
    assert segments.shape == tuple(cfg.INPUT.IMAGE_SIZE)
    assert {x["id"]: x["area"] for x in info} == {
        number: int((segments == number).sum()) for number in segments.unique().tolist() if number
    }
    # Without labels classes come from clusters, which the model itself knows nothing of.
    if is_panoptic(cfg) and not cfg.UNSUPERVISED.CLUSTERS:
        classes = class_set(cfg.DATASETS.TRAIN[0])
        assert all(x["isthing"] is classes.is_thing[x["category_id"]] for x in info)
    else:
        assert segments.all()
