"""How exactly latent diffusion can draw what it has learnt by heart, by what its UNet predicts.

Two pictures of 8x8 that differ everywhere, three random slots each that stay as they are, latents
without loss (blocks of 2x2 pixels): a decoder is trained on copies of them, then draws each picture
from its slots with DDIM. Printed is the decibel (peak signal-to-noise ratio) of both. The decoder
has no other way to know which of the two to draw than its slots.

python benchmarks/diffusion_overfit.py
"""

from __future__ import annotations

import argparse
import json
import math

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from slotseg.decoders import LatentDiffusionDecoder, drawing
from slotseg.decoders.diffusion.colors import ColorSpace
from slotseg.decoders.diffusion.noise import NoiseProcess
from slotseg.decoders.diffusion.unet import build_unet
from slotseg.slots import SlotState

SLOT_DIM = 16
PREDICTIONS = ("v_prediction", "epsilon")


class BlocksOfPixels(nn.Module):
    """Latents from which images come back exactly."""

    stride = 2
    latent_channels = 12

    def encode(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in [-1, 1] to ``[B, 12, H / 2, W / 2]`` of deviation about 1."""
        return 2.0 * F.pixel_unshuffle(images, self.stride)

    def decode(self, latents: Tensor) -> Tensor:
        """The way back, cut to [-1, 1]."""
        return F.pixel_shuffle(latents / 2.0, self.stride).clamp(-1.0, 1.0)


def pictures(size: int = 8) -> Tensor:
    """``[2, 3, size, size]`` in [-1, 1]: a ramp of colours, and a disc on another."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    disc = 1.6 * (x.square() + y.square() < 0.4) - 0.8
    return 0.9 * torch.stack([torch.stack([x, y, -x]), torch.stack([disc, -y, x * y])])


def make_decoder(prediction: str, sampler_steps: int) -> LatentDiffusionDecoder:
    """A UNet of one resolution on the published noise schedule."""
    noise = NoiseProcess(
        timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        prediction=prediction,
        sampler="ddim",
        sampler_steps=sampler_steps,
    )
    unet = build_unet(
        latent_channels=12,
        condition_dim=SLOT_DIM,
        channels=[64],
        blocks=1,
        attention=[True],
        head_dim=32,
        norm_groups=8,
    )
    return LatentDiffusionDecoder(
        slot_dim=SLOT_DIM,
        codec=BlocksOfPixels(),
        unet=unet,
        noise=noise,
        colors=ColorSpace([127.5] * 3, [127.5] * 3, "RGB"),
        image_size=None,
    )


def overfit(prediction: str, args: argparse.Namespace) -> list[float]:
    """Decibel of both pictures after the training."""
    torch.manual_seed(args.seed)
    decoder = make_decoder(prediction, args.sampler_steps).train()
    images, slots = pictures(), torch.randn(2, 3, SLOT_DIM)
    copies = args.copies // 2
    many = SlotState(slots.repeat(copies, 1, 1), torch.zeros(0))
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * step / args.steps))
    )
    for _ in tqdm(range(args.steps), desc=prediction, disable=None):
        noise = decoder(many, {}, images.repeat(copies, 1, 1, 1)).noise
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(noise.prediction, noise.target).backward()
        optimizer.step()
        decay.step()
    with torch.no_grad(), drawing(decoder.eval()):
        made = decoder(SlotState(slots, torch.zeros(0)), {}, images).reconstruction
    return (-10.0 * ((made - images) / 2).square().mean((1, 2, 3)).log10()).tolist()


def main() -> None:
    """Print one row a prediction, and the same figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=250, help="of training (default 250)")
    parser.add_argument("--copies", type=int, default=32, help="a step takes (default 32)")
    parser.add_argument("--sampler-steps", type=int, default=10, help="of DDIM (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = {prediction: overfit(prediction, args) for prediction in PREDICTIONS}
    headers = ("PREDICTION", "first picture, dB", "second picture, dB")
    table = [(prediction, *decibels) for prediction, decibels in rows.items()]
    print(tabulate(table, headers, tablefmt="github", floatfmt=".1f"))
    print(json.dumps({**vars(args), "decibel": rows}))


if __name__ == "__main__":
    main()
