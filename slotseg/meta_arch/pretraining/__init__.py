"""Models without slots and without labels, whose weights other models start from."""

from slotseg.meta_arch.pretraining.latent_autoencoder import LatentAutoencoder
from slotseg.meta_arch.pretraining.masked_autoencoder import MaskedAutoencoder

__all__ = ["LatentAutoencoder", "MaskedAutoencoder"]
