import pytest
import torch

from slotseg.errors import ConfigError
from slotseg.slots import FourierPosition, SoftPosition, build_position


def test_soft_position_is_the_linear_map_of_the_four_ramps():
    module = SoftPosition(4)
    with torch.no_grad():
        module.project.weight.copy_(torch.eye(4))
        module.project.bias.zero_()
    out = module(torch.zeros(1, 4, 3, 3))[0]
    assert out[:, 0, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert out[:, 2, 0].tolist() == [1.0, 0.0, 0.0, 1.0]
    assert out[:, 1, 2].tolist() == [0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("kind", [SoftPosition, FourierPosition])
def test_position_is_added_and_tells_all_pixels_apart(kind):
    torch.manual_seed(0)
    module, features = kind(16), torch.randn(2, 16, 8, 8)
    added = module(features) - features
    torch.testing.assert_close(added[0], added[1], atol=1e-5, rtol=0.0)
    pixels = added[0].flatten(1).T
    distance = torch.cdist(pixels, pixels) + torch.eye(64)
    assert distance.min() > 1e-3


def test_names():
    assert isinstance(build_position("none", 3), torch.nn.Identity)
    with pytest.raises(ConfigError, match="POSITION: 'sine' is unknown"):
        build_position("sine", 3)
