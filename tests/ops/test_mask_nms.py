import torch

from slotseg.ops.mask_nms import distinct_slots


def normalise(masks):
    return masks / masks.sum(dim=0)


def test_a_weaker_slot_on_the_same_object_is_left_out():
    # Slots 0 and 2 share the left half; slot 2 wins one row of it.
    masks = torch.full((3, 4, 8), 1e-3)
    masks[0, :, :4], masks[2, :, :4] = 0.6, 0.4
    masks[2, 0, :4] = 0.9
    masks[1, :, 4:] = 1.0
    assert distinct_slots(normalise(masks), 0.5).tolist() == [0, 1]
    assert distinct_slots(normalise(masks), 1.0).tolist() == [0, 1, 2]


def test_neighbours_that_meet_at_a_soft_boundary_stay():
    masks = torch.full((2, 4, 8), 1e-3)
    masks[0, :, :4], masks[1, :, 4:] = 1.0, 1.0
    masks[:, :, 3:5] = 0.5
    masks[0, :, 3] += 0.1
    assert distinct_slots(normalise(masks), 0.5).tolist() == [0, 1]


def test_a_small_object_inside_the_background_stays():
    masks = torch.full((2, 8, 8), 0.02)
    masks[0] = 0.98
    masks[1, 3, 3], masks[0, 3, 3] = 0.9, 0.1
    assert distinct_slots(masks, 0.5).tolist() == [0, 1]


def test_of_three_on_one_object_one_stays():
    masks = torch.stack([torch.full((4, 4), share) for share in (0.3, 0.36, 0.34)])
    masks[0, 0], masks[2, 3] = 0.5, 0.5
    assert distinct_slots(normalise(masks), 0.5).tolist() == [1]


def test_slots_without_a_pixel_are_left_out_and_one_always_stays():
    masks = torch.tensor([[[0.2]], [[0.5]], [[0.3]]])
    assert distinct_slots(masks, 0.5).tolist() == [1]


def test_crisp_masks_are_untouched():
    owner = torch.randint(0, 5, (16, 16), generator=torch.Generator().manual_seed(0))
    masks = torch.nn.functional.one_hot(owner, 7).permute(2, 0, 1).float()
    assert distinct_slots(masks, 0.3).tolist() == [0, 1, 2, 3, 4]
