"""The report: complete, self-contained, and honest about what is missing."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from slotseg.evaluation import DEFINITIONS
from slotseg.visualization import Curve, Example, RunFolder, build_report, write_report
from slotseg.visualization.report import format_score, format_seconds

SCORES = {
    "ARI": 0.9712,
    "FG-ARI": math.nan,
    "mBO": 0.8,
    "mIoU": 0.75,
    "slots_in_use": 6.25,
    "objects_split": 0.125,
    "images": 320.0,
    "images_without_foreground": 7.0,
    "height": 128.0,
    "width": 96.0,
    "attention_masks": 0.0,
}
LOOKS = [
    {"iteration": 99, "similarity": 0.85, "verdict": "collapsed", "message": "slots are <alike>"},
    {"iteration": 199, "similarity": 0.2, "verdict": "healthy", "message": ""},
]


class Page(HTMLParser):
    """Tags with their attributes, visible text, and whether elements are closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def make_run(**changes) -> RunFolder:
    parts = {
        "path": "output/my run",
        "config_text": "MODEL:\n  WEIGHTS: '<best>'\n",
        "config": {
            "DATASETS": {"TRAIN": ["clevr_generated_train"]},
            "MODEL": {"SLOTS": {"NUM_SLOTS": 11}},
            "SLOT_MONITOR": {"SIMILARITY_WARNING": 0.5, "SIMILARITY_ERROR": 0.8},
        },
        "curves": {"total_loss": Curve([0, 20, 40], [3.0, 2.0, 1.0])},
        "results": {"clevr_generated_val": SCORES},
        "run": {
            "command": ["tools/train_net.py", "--config-file", "a b.yaml"],
            "seed": 2,
            "iterations": 3000,
            "train_seconds": 598.4,
            "started": "2026-01-02T03:04:05+00:00",
            "finished": None,
            "versions": {"torch": "2.15.0", "detectron2": "0.5", "numpy": "2.4.6"},
            "machine": {"processor": "EPYC", "threads": 2, "device": "cpu"},
        },
        "monitor": LOOKS,
        "notes": [],
    }
    return RunFolder(**(parts | changes))


def make_example(group: str = "worst", size: int = 32) -> Example:
    generator = np.random.default_rng(0)
    prediction = generator.integers(0, 3, (size, size))
    return Example(
        name="some/folder/000017.png",
        image=generator.integers(0, 256, (size, size, 3), dtype=np.uint8),
        prediction=prediction,
        masks=np.stack([prediction == slot for slot in range(3)]).astype(np.float32),
        truth=prediction.clip(0, 1),
        group=group,
        scores={"ARI": 0.123, "FG-ARI": math.nan},
    )


@pytest.fixture(scope="module")
def html() -> str:
    return build_report(make_run(), [make_example("best"), make_example("worst")])


def test_headline_scores_with_definitions_resolution_and_mask_source(html):
    page = Page(html)
    assert "0.971 ARI" in page.text
    assert "0.800 mBO" in page.text
    assert "6.25" in page.text
    assert "12.5%" in page.text
    assert "320 images, scored at 128×96 (height × width), decoder masks" in page.text
    assert "7 without an object, left out of FG-ARI" in page.text
    for name in ("ARI", "FG-ARI", "mBO", "mIoU", "slots_in_use", "objects_split"):
        assert " ".join(DEFINITIONS[name].split()) in page.text


def test_undefined_scores_are_told_in_words_and_no_nan_leaks(html):
    page = Page(html)
    assert "not defined FG-ARI" in page.text
    assert re.search(r"\b(nan|inf|None)\b", page.text, re.IGNORECASE) is None


def test_monitor_curves_config_and_origin(html):
    page = Page(html)
    assert "healthy after 200 steps, the last of 2 looks (1 collapsed, 1 healthy)" in page.text
    assert "slots are <alike>" in page.text
    assert "total_loss 1" in page.text
    assert "WEIGHTS: '<best>'" in page.text
    assert "tools/train_net.py --config-file 'a b.yaml'" in page.text
    for words in ("torch 2.15.0", "detectron2 0.5", "numpy 2.4.6", "EPYC", "9 min 58 s", "Seed 2"):
        assert words in page.text
    assert "2026-01-02 03:04:05 UTC" in page.text
    assert "Finished not finished" in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 2
    assert "<alike>" not in html


def test_pictures_are_embedded_and_readable(html):
    page = Page(html)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    # Image, truth, prediction and three slots of two examples.
    assert len(sources) == 12
    sizes = []
    for source in sources:
        head, data = source.split(",", 1)
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            sizes.append((image.mode, image.size))
    assert sizes[:6] == [
        ("RGB", (32, 32)),
        ("RGB", (256, 256)),
        ("RGB", (256, 256)),
        *[("RGBA", (32, 32))] * 3,
    ]
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert "000017.png ARI 0.123 FG-ARI not defined" in page.text
    assert page.text.index("Best 000017") < page.text.index("Worst 000017")


def test_self_contained(html):
    page = Page(html)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_unused_slots_are_named_not_shown():
    example = make_example()
    masks = np.concatenate([example.masks, np.zeros((2, 32, 32), np.float32)])
    report = build_report(make_run(), [dataclasses.replace(example, masks=masks)])
    page = Page(report)
    assert page.open == []
    assert sum(tag == "img" for tag, _ in page.tags) == 6
    assert "Slots 3, 4 win no pixel." in page.text


def test_large_pictures_are_scaled_down():
    report = build_report(make_run(), [make_example(size=700)])
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', report)
    sizes = [Image.open(io.BytesIO(base64.b64decode(source))).size for source in sources]
    assert sizes == [(640, 640)] * 3 + [(160, 160)] * 3


def test_an_almost_empty_run_says_what_is_missing():
    bare = make_run(
        config_text="", config={}, curves={}, results={}, run={}, monitor=[], notes=["a is gone."]
    )
    page = Page(build_report(bare, notes=["No images: b is gone."]))
    assert page.open == []
    for words in (
        "a is gone.",
        "No images: b is gone.",
        "This run has no scores yet",
        "this run logged no metrics",
        "left no verdict",
        "No images:",
        "command line is not recorded",
    ):
        assert words in page.text
    assert re.search(r"\b(nan|None|undefined)\b", page.text) is None


def test_where_slots_start_is_drawn_from_the_last_look_that_knows():
    plane = {"image": "a.png", "points": [[1.0, 0.0], [-1.0, 0.0]], "seeded": 2}
    plane |= {"similarity": -1.0, "explained": 0.75}
    last = {**LOOKS[-1], "seed_planes": [plane, {"image": "broken"}, 3, {**plane, "seeded": "?"}]}
    earlier = {**LOOKS[0], "seed_planes": [{**plane, "image": "old.png"}]}
    page = Page(build_report(make_run(monitor=[earlier, last, LOOKS[-1]])))
    assert page.open == []
    assert "Where slots start" in page.text
    assert "a.png: 2 seeds, similarity -1.00; 75% of the variance" in page.text
    assert "old.png" not in page.text
    assert page.text.count("of the variance") == 1
    for odd in ("x", [], {"a": 1}, None):
        again = Page(build_report(make_run(monitor=[{**LOOKS[-1], "seed_planes": odd}])))
        assert "Where slots start" not in again.text


def test_unexpected_contents_do_not_break_it():
    odd = make_run(
        config={"SLOT_MONITOR": 3, "MODEL": "x"},
        monitor=[{"verdict": "odd", "iteration": "?", "similarity": math.nan}, {"iteration": 1}],
        run={"command": "python x.py", "machine": "box", "versions": [], "train_seconds": "?"},
        results={"a": {}, "b": {"ARI": 1.0, "new_score": 0.5}},
    )
    page = Page(build_report(odd))
    assert "python x.py" in page.text
    assert "New score 0.500" in page.text
    assert "not computed" in page.text


def test_written_atomically_to_the_path(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report(make_run(), str(path), examples_from="From somewhere.")
    assert Page(path.read_text(encoding="utf-8")).open == []
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_formats():
    assert [format_seconds(s) for s in (5.55, 184, 3720)] == ["5.5 s", "3 min 04 s", "1 h 02 min"]
    assert format_score("ARI", 1.0) == "1.000"
    assert format_score("ARI", None) == "not computed"
    assert format_score("objects_missed", 0.5) == "50.0%"
