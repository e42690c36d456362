"""Mixed precision: what is allowed where, and that it really applies."""

import pytest
import torch

from slotseg.config import get_cfg
from slotseg.engine.precision import build_autocast, build_grad_scaler
from slotseg.errors import ConfigError

CPU = torch.device("cpu")


def amp(*overrides):
    return get_cfg(None, ["SOLVER.AMP.ENABLED", True, *overrides])


def product(cfg):
    with build_autocast(cfg, CPU)():
        return torch.ones(2, 2) @ torch.ones(2, 2)


def test_bfloat16_on_a_cpu():
    assert product(amp()).dtype == torch.bfloat16
    assert product(get_cfg()).dtype == torch.float32
    assert not build_grad_scaler(amp(), CPU).is_enabled()


def test_context_can_be_opened_again():
    open_context = build_autocast(amp(), CPU)
    for _ in range(2):
        with open_context():
            assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"SOLVER\.AMP\.DTYPE: float16 needs MODEL\.DEVICE cuda"):
        build_autocast(amp("SOLVER.AMP.DTYPE", "float16"), CPU)
    with pytest.raises(ConfigError, match=r"SOLVER\.AMP\.DTYPE: unknown type 'half'"):
        build_grad_scaler(amp("SOLVER.AMP.DTYPE", "half"), CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_float16_on_a_gpu_scales_the_loss():
    cfg = amp("SOLVER.AMP.DTYPE", "float16")
    assert build_grad_scaler(cfg, torch.device("cuda")).is_enabled()
    with build_autocast(cfg, torch.device("cuda"))():
        assert (torch.ones(2, 2).cuda() @ torch.ones(2, 2).cuda()).dtype == torch.float16
