"""How rubber and metal reflect light: the two published materials.

Rubber is a diffuse base under a weak rough coat, with a velvet rim at grazing angles. Metal mixes a
rough and a nearly smooth mirror, both tinted by the object's colour.

Scattering functions here include the cosine at the surface, are scalars [N] (colour is a factor
outside) and take cosines rather than vectors: n_l, n_v, n_h of the normal with the light, the view
and the half vector, and h_v of half vector and view.
"""

from __future__ import annotations

import numpy as np

RUBBER_COAT_IOR = 1.2
RUBBER_RIM_IOR = 1.4
RUBBER_COAT_WIDTH = 0.35
RUBBER_COAT_COLOR = 0.8
RUBBER_RIM_SIGMA = 0.6

METAL_ROUGH_WIDTH = 0.2
METAL_SMOOTH_WIDTH = 0.01
METAL_SMOOTH_SHARE = 0.6


def fresnel(cosine: np.ndarray, ior: float) -> np.ndarray:
    """Unpolarised reflectance of a dielectric of relative index ``ior``."""
    cosine = np.clip(np.abs(cosine), 0, 1)
    g = np.sqrt(np.float32(ior * ior - 1) + cosine * cosine)
    a = (g - cosine) / (g + cosine)
    b = (cosine * (g + cosine) - 1) / (cosine * (g - cosine) + 1)
    return 0.5 * a * a * (1 + b * b)


def ggx(n_l: np.ndarray, n_v: np.ndarray, n_h: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """GGX reflection without its colour (Walter et al., EGSR 2007, eqs. 20, 33 and 34)."""
    square = np.float32(width) ** 2 if np.isscalar(width) else width * width
    spread = n_h * n_h * (square - 1) + 1
    density = square / (np.pi * spread * spread)
    mask_l = 2 / (1 + np.sqrt(1 + square * (1 / np.maximum(n_l * n_l, 1e-6) - 1)))
    mask_v = 2 / (1 + np.sqrt(1 + square * (1 / np.maximum(n_v * n_v, 1e-6) - 1)))
    return np.where(n_l > 0, density * mask_l * mask_v / (4 * np.maximum(n_v, 1e-3)), 0)


def beckmann(n_l: np.ndarray, n_v: np.ndarray, n_h: np.ndarray, width: float) -> np.ndarray:
    """Beckmann reflection without its colour (Walter et al., EGSR 2007, eqs. 20, 25 and 27)."""
    cosine2 = np.maximum(n_h * n_h, 1e-6)
    tangent2 = (1 - cosine2) / cosine2
    density = np.exp(-tangent2 / np.float32(width**2)) / (np.pi * width**2 * cosine2 * cosine2)
    shadowing = _beckmann_mask(n_l, width) * _beckmann_mask(n_v, width)
    return np.where(n_l > 0, density * shadowing / (4 * np.maximum(n_v, 1e-3)), 0)


def _beckmann_mask(cosine: np.ndarray, width: float) -> np.ndarray:
    cosine = np.clip(cosine, 1e-3, 1)
    a = cosine / (width * np.sqrt(np.maximum(1 - cosine * cosine, 1e-6)))
    rational = (3.535 * a + 2.181 * a * a) / (1 + 2.276 * a + 2.577 * a * a)
    return np.where(a < 1.6, rational, 1)


def velvet(n_l: np.ndarray, n_v: np.ndarray, n_h: np.ndarray, h_v: np.ndarray) -> np.ndarray:
    """Velvet (Ashikhmin, Premoze and Shirley, SIGGRAPH 2000, section 5.3): an inverted Gaussian."""
    h_v = np.maximum(np.abs(h_v), 1e-5)
    sine2 = np.maximum(1 - n_h * n_h, 1e-4)
    inverse = np.float32(1 / RUBBER_RIM_SIGMA**2)
    density = np.exp(-n_h * n_h / sine2 * inverse) * inverse / (np.pi * sine2 * sine2)
    groove = 2 * np.abs(n_h) / h_v
    shadowing = np.minimum(1, np.minimum(groove * np.abs(n_v), groove * np.abs(n_l)))
    return np.where(n_l > 0, 0.25 * density * shadowing / np.maximum(n_v, 1e-3), 0)


def metal(n_l: np.ndarray, n_v: np.ndarray, n_h: np.ndarray, solid_angle: np.ndarray) -> np.ndarray:
    """Both lobes of the metal towards a lamp of some solid angle (its centre gives the cosines).

    The lamp widens the rough lobe. For the smooth lobe it is larger than the lobe itself, so the
    nearer half of it is what counts, and no more than the whole lamp can be reflected.
    """
    apparent = np.sqrt(solid_angle / np.pi) / 2  # as an angle of the half vector
    width = np.sqrt(np.float32(METAL_ROUGH_WIDTH) ** 2 + apparent * apparent)
    rough = ggx(n_l, n_v, n_h, width)
    angle = np.arccos(np.minimum(n_h, 1))
    nearer = np.cos(np.maximum(angle - apparent / 2, 0))
    smooth = ggx(n_l, n_v, nearer, METAL_SMOOTH_WIDTH)
    smooth = np.minimum(smooth, 1 / np.maximum(solid_angle, 1e-9))
    return (1 - METAL_SMOOTH_SHARE) * rough + METAL_SMOOTH_SHARE * smooth


def rubber_shares(n_v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of diffuse base, coat and rim, which depend on the view alone."""
    coat, rim = fresnel(n_v, RUBBER_COAT_IOR), fresnel(n_v, RUBBER_RIM_IOR)
    return (1 - coat) * (1 - rim), coat, (1 - coat) * rim


def rubber_gloss(
    n_l: np.ndarray,
    n_v: np.ndarray,
    n_h: np.ndarray,
    h_v: np.ndarray,
    coat: np.ndarray,
    rim: np.ndarray,
) -> np.ndarray:
    """Coat and rim of rubber with their shares, without the diffuse base."""
    gloss = RUBBER_COAT_COLOR * beckmann(n_l, n_v, n_h, RUBBER_COAT_WIDTH)
    return coat * gloss + rim * velvet(n_l, n_v, n_h, h_v)
