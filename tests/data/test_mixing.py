"""CutMix and mosaic: whose pixel is whose, and which segments there are afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from slotseg.data.mixing import CutMix, Mix, Mosaic, Patch, Remains, Source, compose
from slotseg.errors import ConfigError, DatasetError

NUM_CLASSES = 6
FIRST_THING = 3
KEEP_ALL = Remains(0, 0.0)
HALF = Fraction(1, 2)
Dicts = list[dict[str, Any]]


def panoptic_image(
    rng: np.random.Generator, size: tuple[int, int], confident: bool, name: str
) -> dict[str, Any]:
    """Blocks of random segments, at most one a class of stuff and of crowd; some are not seen."""
    stuff = rng.permutation(FIRST_THING)[: rng.integers(1, FIRST_THING + 1)].tolist()
    things = rng.integers(FIRST_THING, NUM_CLASSES, rng.integers(0, 6)).tolist()
    crowds = rng.permutation(np.arange(FIRST_THING, NUM_CLASSES))[: rng.integers(0, 3)].tolist()
    kinds = [(c, False, False) for c in stuff] + [(c, True, False) for c in things]
    kinds += [(c, False, True) for c in crowds]
    kinds = [kinds[i] for i in rng.permutation(len(kinds))]
    coarse = rng.integers(-1, len(kinds), [-(-side // 3) for side in size])
    segment_map = coarse.repeat(3, 0).repeat(3, 1)[: size[0], : size[1]]
    sample = {
        "image": torch.from_numpy(rng.integers(0, 256, (3, *size), np.uint8)),
        "segment_map": torch.from_numpy(segment_map.copy()),
        "segment_category": torch.tensor([kind[0] for kind in kinds]),
        "segment_is_object": torch.tensor([kind[1] for kind in kinds]),
        "segment_is_crowd": torch.tensor([kind[2] for kind in kinds]),
        "file_name": name,
        "image_id": name,
        "height": 2 * size[0],
        "width": 2 * size[1],
    }
    if confident:
        sample["segment_confidence"] = torch.from_numpy(rng.random(len(kinds), np.float32))
    return sample


def scene(rng: np.random.Generator, size: tuple[int, int]) -> dict[str, Any]:
    """As the mapper of scene folders gives it: segment 0 is the background."""
    count = int(rng.integers(1, 5))
    coarse = rng.integers(-1, count, [-(-side // 3) for side in size])
    return {
        "image": torch.from_numpy(rng.integers(0, 256, (3, *size), np.uint8)),
        "segment_map": torch.from_numpy(
            coarse.repeat(3, 0).repeat(3, 1)[: size[0], : size[1]].copy()
        ),
        "segment_is_object": torch.arange(count) > 0,
        "file_name": "scene",
    }


def batch_of(seed: int, count: int, size: tuple[int, int], confident: bool = False) -> Dicts:
    rng = np.random.default_rng(seed)
    return [
        panoptic_image(rng, size, confident and number % 2 == 0, f"{number}.png")
        for number in range(count)
    ]


def copied(dicts: Dicts) -> Dicts:
    return [
        {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in d.items()} for d in dicts
    ]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype
        if isinstance(a[k], torch.Tensor)
        else a[k] == b[k]
        for k in a
    )


def painted(dicts: Dicts, patches: list[Patch]) -> np.ndarray:
    """(patch, segment) of every pixel, [H, W, 2], pixel by pixel; segment -1 is void."""
    origin = np.full((*dicts[0]["segment_map"].shape, 2), -9)
    for number, patch in enumerate(patches):
        source = dicts[patch.source]["segment_map"].numpy()
        top, left, height, width = patch.box
        for y in range(height):
            for x in range(width):
                row = math.floor((Fraction(y) + HALF) * patch.window[2] / height)
                column = math.floor((Fraction(x) + HALF) * patch.window[3] / width)
                segment = source[patch.window[0] + row, patch.window[1] + column]
                origin[top + y, left + x] = number, segment
    assert (origin[..., 0] >= 0).all()
    return origin


def expected(dicts: Dicts, patches: list[Patch], remains: Remains) -> list[dict[str, Any]]:
    """The segments that the result should have, each with its pixels, the slow way."""
    origin = painted(dicts, patches)
    groups: dict[Any, list[tuple[int, int]]] = {}
    for number, patch in enumerate(patches):
        sample = dicts[patch.source]
        for segment, is_object in enumerate(sample["segment_is_object"].tolist()):
            kind = (
                int(sample["segment_category"][segment]),
                bool(sample["segment_is_crowd"][segment]),
            )
            groups.setdefault((number, segment) if is_object else ("stuff", *kind), []).append(
                (number, segment)
            )
    result = []
    for members in groups.values():
        parts = [(origin == member).all(axis=2) for member in members]
        areas = np.array([part.sum() for part in parts])
        former = 0.0
        for number, segment in members:
            patch = patches[number]
            segment_map = dicts[patch.source]["segment_map"]
            scale = math.prod(patch.box[2:]) / math.prod(patch.window[2:])
            former += int((segment_map == segment).sum()) * scale
        first = dicts[patches[members[0][0]].source]
        is_crowd = bool(first["segment_is_crowd"][members[0][1]])
        enough = areas.sum() >= remains.min_area or areas.sum() >= remains.min_share * former
        if not areas.sum() or not (enough or is_crowd):
            continue
        trust = [
            float(dicts[patches[n].source].get("segment_confidence", torch.ones(99))[s])
            for n, s in members
        ]
        result.append(
            {
                "mask": np.any(parts, axis=0),
                "category": int(first["segment_category"][members[0][1]]),
                "is_object": bool(first["segment_is_object"][members[0][1]]),
                "is_crowd": is_crowd,
                "confidence": float((areas * trust).sum() / areas.sum()),
            }
        )
    return result


def planned(mix: Mix, count: int, size: tuple[int, int], seed: int) -> list[list[Patch]]:
    rng = np.random.default_rng(seed)
    return [mix.plan(image, count, size, rng) for image in range(count)]


MAKERS: dict[str, Callable[[Remains], Mix]] = {
    "cutmix": lambda remains: CutMix(1.0, remains),
    "mosaic": lambda remains: Mosaic((0.25, 0.75), (0.5, 1.0), remains),
}
makers = st.sampled_from(sorted(MAKERS))
sizes = st.tuples(st.integers(2, 18), st.integers(2, 18))
counts = st.integers(2, 5)
seeds = st.integers(0, 2**31)
limits = st.builds(Remains, st.integers(0, 60), st.floats(0, 1))


@settings(max_examples=40)
@given(makers, counts, sizes, limits, seeds, st.booleans())
def test_every_pixel_keeps_its_segment_and_every_segment_its_entries(
    name, count, size, remains, seed, confident
):
    """Area and ids, class, flags and confidence of all segments against the slow way."""
    dicts = batch_of(seed, count, size, confident)
    sources = [Source(sample) for sample in dicts]
    for patches in planned(MAKERS[name](remains), count, size, seed):
        if not patches:
            continue
        mixed = compose(sources, patches, remains)
        truth = expected(dicts, patches, remains)
        segment_map = mixed["segment_map"].numpy()
        assert segment_map.dtype == np.int64
        lengths = {len(value) for key, value in mixed.items() if key.startswith("segment_is")}
        assert lengths == {len(truth)} == {len(mixed["segment_category"])}
        covered = np.zeros(size, bool)
        for number, segment in enumerate(truth):
            assert (segment_map[segment["mask"]] == number).all()
            covered |= segment["mask"]
            assert mixed["segment_category"][number] == segment["category"]
            assert mixed["segment_is_object"][number] == segment["is_object"]
            assert mixed["segment_is_crowd"][number] == segment["is_crowd"]
            if "segment_confidence" in mixed:
                assert mixed["segment_confidence"].dtype == torch.float32
                trust = float(mixed["segment_confidence"][number])
                assert trust == pytest.approx(segment["confidence"], abs=1e-6)
        assert (segment_map[~covered] == -1).all()
        of_used = ["segment_confidence" in dicts[patch.source] for patch in patches]
        assert ("segment_confidence" in mixed) == any(of_used)


@settings(max_examples=40)
@given(makers, counts, sizes, seeds)
def test_nothing_is_lost_where_no_remains_are_too_small(name, count, size, seed):
    """Every pixel of every source that is seen is in the result: things, stuff, crowd and void."""
    dicts = batch_of(seed, count, size)
    for patches in planned(MAKERS[name](KEEP_ALL), count, size, seed):
        if not patches:
            continue
        mixed = compose([Source(sample) for sample in dicts], patches, KEEP_ALL)
        origin = painted(dicts, patches)
        segment_map = mixed["segment_map"].numpy()
        assert np.array_equal(segment_map < 0, origin[..., 1] < 0)
        for number, patch in enumerate(patches):
            for segment in range(len(dicts[patch.source]["segment_is_crowd"])):
                seen = segment_map[(origin == (number, segment)).all(axis=2)]
                assert len(set(seen.tolist())) <= 1
                for key in ("segment_category", "segment_is_object", "segment_is_crowd"):
                    assert (mixed[key][seen] == dicts[patch.source][key][segment]).all()
        kinds = torch.stack([mixed["segment_category"], mixed["segment_is_crowd"].long()], dim=1)
        shared = kinds[~mixed["segment_is_object"]].tolist()
        assert len(shared) == len({tuple(kind) for kind in shared})
        assert set(segment_map[segment_map >= 0].tolist()) == set(range(len(kinds)))


@settings(max_examples=40)
@given(makers, counts, sizes, seeds)
def test_inputs_stay_and_the_same_generator_gives_the_same(name, count, size, seed):
    dicts = batch_of(seed, count, size, confident=True)
    before = copied(dicts)
    mix = MAKERS[name](Remains(4, 0.2))
    mixed = mix(dicts, np.random.default_rng(seed))
    # Writing into the result must not reach the inputs either.
    for result, own in zip(mixed, dicts, strict=True):
        if result is not own:
            result["image"].fill_(7)
            result["segment_map"].fill_(0)
    assert all(same(a, b) for a, b in zip(dicts, before, strict=True))
    first, second = (mix(dicts, np.random.default_rng(seed)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


@settings(max_examples=40)
@given(makers, counts, sizes, seeds)
def test_the_order_of_the_batch_does_not_matter(name, count, size, seed):
    """The same images under other numbers, taken by these numbers, give the same picture."""
    dicts = batch_of(seed, count, size)
    order = np.random.default_rng(seed).permutation(count)
    place = np.argsort(order)
    moved = [Source(dicts[number]) for number in order]
    remains = Remains(4, 0.2)
    for patches in planned(MAKERS[name](remains), count, size, seed):
        if not patches:
            continue
        renamed = [Patch(int(place[p.source]), p.window, p.box) for p in patches]
        own = compose([Source(sample) for sample in dicts], patches, remains)
        assert same(own, compose(moved, renamed, remains))


@settings(max_examples=40)
@given(makers, counts, sizes, seeds)
def test_plans_fit(name, count, size, seed):
    """Windows lie inside the images, boxes inside the result; the first is the image's own."""
    for image, patches in enumerate(planned(MAKERS[name](KEEP_ALL), count, size, seed)):
        if not patches:
            continue
        assert patches[0].source == image
        assert all(0 <= p.source < count for p in patches)
        assert all(p.source != image for p in patches[1:])
        taken = np.zeros(size, int)
        for patch in patches:
            top, left, height, width = patch.box
            assert min(top, left) >= 0 and min(height, width) >= 1
            taken[top : top + height, left : left + width] += 1
            assert min(patch.window[:2]) >= 0
            assert height <= patch.window[2] <= size[0] - patch.window[0]
            assert width <= patch.window[3] <= size[1] - patch.window[1]
        assert taken.min() >= 1
        assert taken.max() <= (1 if name == "mosaic" else 2)


@settings(max_examples=40)
@given(st.integers(4, 9), sizes, seeds)
def test_a_mosaic_shows_four_different_images(count, size, seed):
    for patches in planned(MAKERS["mosaic"](KEEP_ALL), count, size, seed):
        assert len({patch.source for patch in patches}) == 4


@pytest.mark.parametrize("alpha", [1.0, 0.8, 4.0])
def test_the_box_of_cutmix_has_the_area_that_is_drawn(alpha):
    """lambda is Beta(alpha, alpha) distributed: 1 - lambda is too."""
    size, rng = (400, 400), np.random.default_rng(0)
    mix = CutMix(alpha, KEEP_ALL)
    shares, partners = [], []
    for _ in range(800):
        plan = mix.plan(1, 4, size, rng)
        height, width = plan[1].box[2:] if plan else (0, 0)
        assert abs(height - width) <= 1
        shares.append(height * width / (size[0] * size[1]))
        partners += [plan[1].source] if plan else []
    assert kstest(shares, "beta", (alpha, alpha)).pvalue > 0.01
    assert np.bincount(partners, minlength=4)[[0, 2, 3]].min() > 200


def test_cutmix_shows_the_partner_at_the_same_place():
    dicts = batch_of(0, 2, (20, 30))
    mixed = CutMix(1.0, KEEP_ALL)(dicts, np.random.default_rng(3))
    for own, other, result in zip(dicts, dicts[::-1], mixed, strict=True):
        pasted = (result["image"] != own["image"]).any(dim=0)
        rows, columns = pasted.any(1).nonzero().flatten(), pasted.any(0).nonzero().flatten()
        box = np.s_[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert 0 < pasted.sum() < pasted.numel()
        assert torch.equal(result["image"][box], other["image"][box])
        assert result["file_name"] == own["file_name"]
        assert result["mixed_with"] == (other["file_name"],)
        assert (result["height"], result["width"]) == (40, 60)


@pytest.mark.parametrize(("box", "area"), [((40, 64), 16 * 24), ((15, 24), 6 * 9)])
def test_the_shrunk_picture_and_its_segments_lie_on_each_other(box, area):
    """A bright square is where its segment is, down to a quarter of the size."""
    segment_map = torch.zeros(60, 96, dtype=torch.int64)
    segment_map[12:36, 36:72] = 1
    sample = {
        "image": (segment_map * 200).to(torch.uint8).expand(3, -1, -1).contiguous(),
        "segment_map": segment_map,
        "segment_is_object": torch.tensor([False, True]),
    }
    whole = (0, 0, 60, 96)
    patches = [Patch(0, whole, whole), Patch(0, whole, (0, 0, *box))]
    mixed = compose([Source(sample)], patches, KEEP_ALL)
    inside = mixed["image"][0, : box[0], : box[1]] > 100
    # Another picture of the same object is another object.
    assert torch.equal(inside, mixed["segment_map"][: box[0], : box[1]] == 2)
    assert int(inside.sum()) == area


@pytest.mark.parametrize(
    ("visible", "kept"), [(100, True), (9, False), (10, True), (5, False), (0, False)]
)
def test_remains_are_void_if_too_few_and_too_small_a_share(visible, kept):
    """Fewer than 10 pixels and less than half of 20."""
    remains = Remains(10, 0.5)
    assert remains.enough(torch.tensor(visible), torch.tensor(20.0)) == kept
    assert remains.enough(torch.tensor(visible), torch.tensor(2.0 * visible)) == (visible > 0)


@settings(max_examples=40)
@given(makers, counts, sizes, seeds)
def test_in_scenes_the_background_stays_segment_0(name, count, size, seed):
    rng = np.random.default_rng(seed)
    dicts = [scene(rng, size) for _ in range(count)]
    mix = MAKERS[name](Remains(30, 0.9))
    for result in mix(dicts, np.random.default_rng(seed)):
        is_object = result["segment_is_object"]
        assert is_object.tolist() == [False] + [True] * (len(is_object) - 1)
        assert "segment_category" not in result
        assert int(result["segment_map"].max()) < len(is_object)
    patches = planned(MAKERS[name](KEEP_ALL), count, size, seed)[0]
    if patches:
        mixed = compose([Source(sample) for sample in dicts], patches, KEEP_ALL)
        assert np.array_equal(
            mixed["segment_map"].numpy() == 0, painted(dicts, patches)[..., 1] == 0
        )


def test_images_without_any_segment():
    """A pseudo-labelled image of which nothing was trusted."""
    dicts = batch_of(1, 2, (9, 9))
    for key in ("segment_category", "segment_is_object", "segment_is_crowd"):
        dicts[0][key] = dicts[0][key][:0]
    dicts[0]["segment_map"].fill_(-1)
    empty = [dicts[0], dict(dicts[0])]
    for mix in (MAKERS["cutmix"](KEEP_ALL), MAKERS["mosaic"](KEEP_ALL)):
        for result in mix(empty, np.random.default_rng(0)):
            assert (result["segment_map"] == -1).all() and not len(result["segment_category"])
        for result in mix(dicts, np.random.default_rng(0)):
            assert int(result["segment_map"].max()) + 1 == len(result["segment_category"])


def test_the_probability_decides_only_who_is_mixed():
    dicts = batch_of(0, 6, (12, 12))
    mix = MAKERS["cutmix"](KEEP_ALL)

    def mixed(probability: float) -> Dicts:
        return mix(dicts, np.random.default_rng(5), probability)

    always, sometimes = mixed(1.0), mixed(0.5)
    assert all(a is b for a, b in zip(mixed(0.0), dicts, strict=True))
    untouched = [a is b for a, b in zip(sometimes, dicts, strict=True)]
    assert 0 < sum(untouched) < 6
    for own, full, skip in zip(sometimes, always, untouched, strict=True):
        assert skip or same(own, full)


def test_one_image_has_no_partner():
    dicts = batch_of(0, 1, (12, 12))
    for make in MAKERS.values():
        (only,) = make(KEEP_ALL)(dicts, np.random.default_rng(0))
        assert only is dicts[0]
        assert make(KEEP_ALL)([], np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (lambda d: d.pop("segment_map"), DatasetError, "1.png: has no segments"),
        (
            lambda d: d.update(image=d["image"][:, 1:]),
            ConfigError,
            "1.png: is 11x12 .*INPUT.RESIZE",
        ),
        (lambda d: d.pop("segment_category"), DatasetError, "1.png: has no segment_category"),
    ],
)
def test_images_that_cannot_be_mixed(spoil, error, told):
    dicts = batch_of(0, 2, (12, 12))
    spoil(dicts[1])
    with pytest.raises(error, match=told) as caught:
        CutMix(1.0, KEEP_ALL)(dicts, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: CutMix(0.0, KEEP_ALL), "CUTMIX.ALPHA"),
        (lambda: CutMix(math.nan, KEEP_ALL), "CUTMIX.ALPHA"),
        (lambda: Mosaic((0.0, 0.5), (0.5, 1.0), KEEP_ALL), "MOSAIC.CENTER"),
        (lambda: Mosaic((0.6, 0.5), (0.5, 1.0), KEEP_ALL), "MOSAIC.CENTER"),
        (lambda: Mosaic((0.5,), (0.5, 1.0), KEEP_ALL), "MOSAIC.CENTER"),
        (lambda: Mosaic((0.5, 0.5), (0.5, 1.1), KEEP_ALL), "MOSAIC.SCALE"),
        (lambda: Mosaic((0.5, 0.5), (0.0, 1.0), KEEP_ALL), "MOSAIC.SCALE"),
    ],
)
def test_settings_that_make_no_sense(make, key):
    with pytest.raises(ConfigError, match=key):
        make()
