import torch

from slotseg.ops.grid import unit_grid


def test_corners_and_order_of_coordinates():
    grid = unit_grid(3, 5, like=torch.zeros(1))
    assert grid.shape == (3, 5, 2)
    assert grid[0, 0].tolist() == [0.0, 0.0]
    assert grid[2, 0].tolist() == [1.0, 0.0]
    assert grid[0, 4].tolist() == [0.0, 1.0]
    assert grid[1, 1].tolist() == [0.5, 0.25]


def test_a_single_row_lies_at_zero():
    assert unit_grid(1, 2, like=torch.zeros(1))[0, :, 0].tolist() == [0.0, 0.0]
