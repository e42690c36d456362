import pytest
import torch
from detectron2.layers import ShapeSpec

from slotseg import get_cfg
from slotseg.decoders import MaskProductDecoder, SpatialBroadcastDecoder, build_decoders
from slotseg.decoders.mask_product import move_quadratic
from slotseg.errors import ConfigError
from slotseg.slots import SlotState

SHAPES = {"s2": ShapeSpec(channels=6, stride=2)}


def make_state(batch=2, num_slots=3, dim=8):
    torch.manual_seed(0)
    return SlotState(torch.randn(batch, num_slots, dim), torch.full((batch, num_slots, 1, 1), 0.3))


def make_broadcast(**options):
    defaults = {
        "dim": 8,
        "resolution": (4, 6),
        "channels": [8, 8],
        "strides": [2, 1],
        "kernel_size": 5,
    }
    torch.manual_seed(0)
    return SpatialBroadcastDecoder(**{**defaults, **options})


# Neither decoder looks at the images.
IMAGES = torch.zeros(0)


def test_broadcast_output_is_the_grid_times_the_strides():
    decoded = make_broadcast()(make_state(), {}, IMAGES)
    assert decoded.mask_logits.shape == (2, 3, 8, 12)
    assert decoded.reconstruction.shape == (2, 3, 8, 12)


def test_broadcast_image_is_the_mask_weighted_sum_of_the_slots_alone():
    """A slot decoded alone gives its own colours, since its mask is then 1 everywhere."""
    decoder, state = make_broadcast(), make_state()
    decoded = decoder(state, {}, IMAGES)
    alone = [
        decoder(SlotState(state.slots[:, k : k + 1], state.attention), {}, IMAGES).reconstruction
        for k in range(3)
    ]
    masks = decoded.mask_logits.softmax(dim=1)
    expected = sum(masks[:, k : k + 1] * alone[k] for k in range(3))
    torch.testing.assert_close(decoded.reconstruction, expected, atol=1e-5, rtol=1e-4)


def test_broadcast_published_size():
    cfg = get_cfg()
    decoder = SpatialBroadcastDecoder(cfg, SHAPES)
    with torch.no_grad():
        decoded = decoder(make_state(1, 2, 64), {}, IMAGES)
    assert decoded.reconstruction.shape == (1, 3, 128, 128)


def make_product(quadratic=True):
    torch.manual_seed(0)
    return MaskProductDecoder(
        slot_dim=8, in_feature="s2", in_channels=6, dim=4, position="none", quadratic=quadratic
    )


def test_product_masks_are_dot_products():
    decoder, state = make_product(quadratic=False), make_state()
    features = torch.randn(2, 6, 5, 7)
    logits = decoder(state, {"s2": features}, IMAGES).mask_logits
    slot = decoder.slot_embedding(state.slots[1, 2])
    pixel = decoder.pixel_embedding(features)[1, :, 3, 4]
    torch.testing.assert_close(logits[1, 2, 3, 4], slot @ pixel)
    assert logits.shape == (2, 3, 5, 7)


def test_product_window_is_quadratic_in_x_and_y():
    decoder, state = make_product(), make_state(1, 1)
    with torch.no_grad():
        decoder.window.weight.zero_()
        decoder.window.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        decoder.pixel_embedding[-1].weight.zero_()
        decoder.pixel_embedding[-1].bias.zero_()
    logits = decoder(state, {"s2": torch.zeros(1, 6, 3, 3)}, IMAGES).mask_logits[0, 0]
    x, y = 1.0, -1.0  # the top right corner
    expected = x * x + 2 * x * y + 3 * y * y + 4 * x + 5 * y + 6
    torch.testing.assert_close(logits[0, 2], torch.tensor(expected))


def test_slots_are_decoded_independently_of_their_order():
    order = torch.tensor([2, 0, 1])
    features = {"s2": torch.randn(2, 6, 5, 7)}
    for decoder in (make_broadcast(), make_product()):
        state = make_state()
        plain = decoder(state, features, IMAGES).mask_logits
        permuted = decoder(
            SlotState(state.slots[:, order], state.attention), features, IMAGES
        ).mask_logits
        torch.testing.assert_close(plain[:, order], permuted, atol=1e-5, rtol=1e-4)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        for decoder in (make_broadcast(), make_product()):
            decoded = decoder(make_state(), {"s2": torch.randn(2, 6, 4, 4)}, IMAGES)
            assert decoded.mask_logits.dtype == torch.float32


def test_wrong_configs_are_refused():
    with pytest.raises(ConfigError, match="no output 's4'; choose from s2"):
        MaskProductDecoder(get_cfg(overrides=["MODEL.MASK_PRODUCT.IN_FEATURE", "s4"]), SHAPES)
    with pytest.raises(ConfigError, match="MODEL.DECODERS is empty"):
        build_decoders(get_cfg(overrides=["MODEL.DECODERS", []]), SHAPES)
    with pytest.raises(ConfigError, match="'Nonsense' is not registered"):
        build_decoders(get_cfg(overrides=["MODEL.DECODERS", ["Nonsense"]]), SHAPES)
    with pytest.raises(ConfigError, match="2 CHANNELS but 1 STRIDES"):
        make_broadcast(strides=[2])


def test_a_window_around_a_place_is_the_same_form_moved_there():
    torch.manual_seed(3)
    form, center = torch.randn(5, 6), torch.rand(5, 2) * 2 - 1
    x, y = torch.randn(5), torch.randn(5)
    u, v = 3.0 * (x - center[:, 1]), 2.0 * (y - center[:, 0])
    local = torch.stack([u * u, u * v, v * v, u, v, torch.ones(5)], dim=1)
    basis = torch.stack([x * x, x * y, y * y, x, y, torch.ones(5)], dim=1)
    moved = move_quadratic(form, center, x_scale=3.0, y_scale=2.0)
    torch.testing.assert_close((moved * basis).sum(1), (form * local).sum(1))


def test_masks_of_slots_with_a_place_start_there():
    decoder = MaskProductDecoder(
        slot_dim=8,
        in_feature="s2",
        in_channels=4,
        dim=4,
        position="none",
        quadratic=True,
        has_places=True,
    )
    places = torch.tensor([[[0.25, 0.75], [float("nan")] * 2]])
    slots = SlotState(torch.zeros(1, 2, 8), torch.full((1, 2, 1, 1), 0.5), places=places)
    made = decoder(slots, {"s2": torch.zeros(1, 4, 32, 64)}, torch.zeros(1, 3, 64, 128))
    row, column = divmod(int(made.mask_logits[0, 0].argmax()), 64)
    assert abs(row - 7.5) <= 1 and abs(column - 47.5) <= 1
    # As many pixels down as across, but for half a pixel: a round hill.
    hill = made.mask_logits[0, 0]
    torch.testing.assert_close(hill[row, column + 4], hill[row + 4, column], atol=0.35, rtol=0)


def test_windows_stay_at_their_place_under_autocast():
    torch.manual_seed(0)
    decoder = MaskProductDecoder(
        slot_dim=8,
        in_feature="s2",
        in_channels=4,
        dim=4,
        position="none",
        quadratic=True,
        has_places=True,
    )
    # What the layers give is the same in both precisions: zero, and the windows' biases.
    for layer in (decoder.pixel_embedding[-1], decoder.window, decoder.window_at_place):
        torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(decoder.pixel_embedding[-1].bias)
    slots = SlotState(torch.randn(1, 9, 8), torch.ones(1), places=torch.rand(1, 9, 2))
    features = {"s2": torch.randn(1, 4, 64, 128)}
    exact = decoder(slots, features, IMAGES).mask_logits
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder(slots, features, IMAGES).mask_logits
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=1e-4)


def test_training_takes_some_of_the_pixels_of_the_whole_mask():
    decoder = MaskProductDecoder(
        slot_dim=8,
        in_feature="s2",
        in_channels=6,
        dim=4,
        position="fourier",
        quadratic=True,
        train_step=2,
    )
    slots, features = make_state(), {"s2": torch.randn(2, 6, 6, 8)}
    whole = decoder.eval()(slots, features, torch.zeros(2, 3, 12, 16))
    assert whole.lattice is None and whole.mask_logits.shape == (2, 3, 6, 8)
    some = decoder.train()(slots, features, torch.zeros(2, 3, 12, 16))
    assert some.mask_logits.shape == (2, 3, 3, 4)
    torch.testing.assert_close(some.mask_logits, some.lattice.take(whole.mask_logits))


def test_no_pixel_is_no_training():
    with pytest.raises(ConfigError, match="TRAIN_STEP is 0"):
        MaskProductDecoder(
            slot_dim=8,
            in_feature="s2",
            in_channels=6,
            dim=4,
            position="none",
            quadratic=False,
            train_step=0,
        )
