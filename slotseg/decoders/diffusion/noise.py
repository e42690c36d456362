"""How noise is put into latents, and taken out again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from slotseg.errors import ConfigError

BETA_SCHEDULES = ("scaled_linear", "linear", "squaredcos_cap_v2")
PREDICTIONS = ("epsilon", "v_prediction")
SAMPLERS = ("ddim", "dpm-solver")


class NoiseProcess:
    """The diffusion of Ho et al. 2020 and samplers that reverse it, from diffusers.

    Random numbers come from PyTorch's global generator.

    Args:
        timesteps: steps of the schedule.
        beta_schedule: one of :data:`BETA_SCHEDULES`.
        beta_start, beta_end: variances added in the first and in the last step.
        prediction: one of :data:`PREDICTIONS`, what the network is asked for.
        sampler: one of :data:`SAMPLERS`.
        sampler_steps: steps in which a picture is drawn.

    Raises:
        ConfigError: an unknown name, or a number out of range.
    """

    def __init__(
        self,
        *,
        timesteps: int,
        beta_schedule: str,
        beta_start: float,
        beta_end: float,
        prediction: str,
        sampler: str,
        sampler_steps: int,
    ) -> None:
        from diffusers import DDPMScheduler

        for key, value, known in (
            ("BETA_SCHEDULE", beta_schedule, BETA_SCHEDULES),
            ("PREDICTION", prediction, PREDICTIONS),
            ("SAMPLER", sampler, SAMPLERS),
        ):
            if value not in known:
                raise ConfigError(
                    f"MODEL.DIFFUSION.{key}: {value!r} is unknown; choose from {', '.join(known)}"
                )
        if not 0.0 < beta_start <= beta_end < 1.0:
            raise ConfigError(
                f"MODEL.DIFFUSION: BETA_START {beta_start} and BETA_END {beta_end} must rise "
                "between 0 and 1"
            )
        if not 1 <= sampler_steps <= timesteps:
            raise ConfigError(
                f"MODEL.DIFFUSION.SAMPLER_STEPS {sampler_steps} must lie between 1 and TIMESTEPS "
                f"{timesteps}"
            )
        self._schedule = {
            "num_train_timesteps": timesteps,
            "beta_schedule": beta_schedule,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "prediction_type": prediction,
        }
        self._sampler = sampler
        self._sampler_steps = sampler_steps
        self._forward = DDPMScheduler(**self._schedule)

    def add_noise(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents at random times of the process.

        Returns:
            Noisy latents, their times ``[B]`` and what the network should make of them.
        """
        timesteps = self._schedule["num_train_timesteps"]
        times = torch.randint(timesteps, latents.shape[:1], device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self._forward.add_noise(latents, noise, times)
        if self._schedule["prediction_type"] == "epsilon":
            return noisy, times, noise
        return noisy, times, self._forward.get_velocity(latents, noise, times)

    def sample(self, latents: Tensor, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Turn noise into latents of an image, without adding noise on the way.

        Args:
            latents: ``[B, C, h, w]`` float32 from a standard normal distribution.
            predict: noisy latents and their times ``[B]`` to the network's prediction.
        """
        sampler = self._build_sampler()
        sampler.set_timesteps(self._sampler_steps, device=latents.device)
        for time in sampler.timesteps:
            prediction = predict(latents, time.expand(latents.shape[0])).float()
            latents = sampler.step(prediction, time, latents).prev_sample
        return latents

    def _build_sampler(self) -> object:
        """A new one for every use: they remember where they are."""
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

        # "trailing" starts where training ends, at pure noise (Lin et al. 2024, section 3.3).
        if self._sampler == "ddim":
            # Latents are not bounded as pixels are.
            return DDIMScheduler(**self._schedule, timestep_spacing="trailing", clip_sample=False)
        return DPMSolverMultistepScheduler(
            **self._schedule, timestep_spacing="trailing", algorithm_type="dpmsolver++"
        )
