"""The loss: timesteps, weights, label dropout.

DDPM (arXiv:2006.11239), algorithm 1, with classifier-free guidance's label dropout (Ho & Salimans
2022, arXiv:2207.12598, algorithm 1).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.diffusion import DiffusionProcess

TIME_DISTRIBUTIONS = ("uniform", "logit-normal")
LOSS_WEIGHTINGS = ("none", "velocity", "min-snr")
UNIFORM_SHARE = 0.1  # of the logit-normal timesteps: else the ends would hardly be trained
SNR_GAMMA = 5.0  # of "min-snr": the paper's
LARGEST_WEIGHT = 1_000.0  # of an image's loss; the cosine schedule's last 1 / ᾱ is 4e8


@validation.checked
def drop_labels(
    y: Tensor, p: float = 0.1, *, null_class: int, generator: torch.Generator | None = None
) -> Tensor:
    """Labels y (B,) int64, each replaced by `null_class` with probability p: one coin per image.

    Classifier-free guidance, algorithm 1. Raises ValueError unless 0 <= p <= 1.
    """
    device = y.device if generator is None else generator.device
    coins = torch.rand(y.shape, generator=generator, device=device, dtype=torch.float32)  # (B,)
    return torch.where(coins.to(y.device) < p, null_class, y)


def draw_times(
    count: int,
    num_steps: int,
    distribution: str = "uniform",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Training timesteps: int64 (count,) in 0 … T-1, on the generator's device.

    "uniform" is DDPM's; "logit-normal" (Esser et al. 2024, arXiv:2403.03206, section 3.1) squashes
    a standard normal, so that the middle of the process is seen often; one timestep in ten is
    uniform all the same, so that the ends are seen too. Raises ValueError for another distribution.
    """
    count, num_steps = validation.whole("count", count, 0), validation.whole("num_steps", num_steps)
    validation.choice("distribution", distribution, TIME_DISTRIBUTIONS)
    device = "cpu" if generator is None else generator.device
    uniform = torch.randint(0, num_steps, (count,), generator=generator, device=device)
    if distribution == "uniform":
        return uniform
    normal = torch.randn(count, generator=generator, device=device, dtype=torch.float32)
    u = torch.sigmoid(normal)  # in (0, 1)
    middle = (u * num_steps).long().clamp(max=num_steps - 1)
    coins = torch.rand(count, generator=generator, device=device, dtype=torch.float32)
    return torch.where(coins < UNIFORM_SHARE, uniform, middle)


def loss_weights(alpha_bar: Tensor, weighting: str = "none") -> Tensor:
    """Per-image loss weight as a function of ᾱ_t: (B,) -> float32 (B,).

    "none" is DDPM's 1. "velocity" is 1 / ᾱ_t, at most LARGEST_WEIGHT: since ε differs from its
    prediction by √ᾱ_t times what v does, this is the squared error of v (Salimans & Ho 2022,
    arXiv:2202.00512, section 4: "SNR + 1" weighting), which counts noisy images as much as clean.
    "min-snr" is min(SNR, γ) / SNR with SNR = ᾱ_t / (1 - ᾱ_t) (Hang et al. 2023, arXiv:2303.09556,
    section 3.4), which counts nearly clean images less. Raises ValueError for another weighting.
    """
    validation.choice("weighting", weighting, LOSS_WEIGHTINGS)
    if weighting == "none":
        return torch.ones_like(alpha_bar)
    if weighting == "velocity":
        return (1 / alpha_bar).clamp(max=LARGEST_WEIGHT)
    snr = alpha_bar / (1 - alpha_bar)
    return snr.clamp(max=SNR_GAMMA) / snr


@validation.checked
def diffusion_loss(
    model: Callable,
    process: DiffusionProcess,
    x0: Tensor,
    y: Tensor,
    generator: torch.Generator | None = None,
    *,
    time_distribution: str = "uniform",
    weighting: str = "none",
) -> Tensor:
    """The mean squared error between the noise and the model's prediction of it: a scalar tensor.

    DDPM, eq. 14. x0 (B, 3, H, W) in [-1, 1], y (B,) int64 as given. Each image gets its own
    timestep, drawn by `draw_times`, and counts as `loss_weights` says.
    """
    t = draw_times(len(x0), process.num_steps, time_distribution, generator).to(x0.device)
    xt, noise = process.add_noise(x0, t, generator=generator)
    eps = model(xt, t, y)  # (B, 3, H, W)
    errors = F.mse_loss(eps, noise, reduction="none").flatten(1).mean(dim=1)  # (B,)
    return (loss_weights(process.alpha_bar[t], weighting) * errors).mean()
