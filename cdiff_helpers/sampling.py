"""Sampling: from pure noise back to images, class by class.

Home: notebook 06. DDPM (arXiv:2006.11239), algorithm 2; DDIM (Song et al. 2021,
arXiv:2010.02502), eq. 12; DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), algorithm 2;
classifier-free guidance (arXiv:2207.12598), eq. 6.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import to_image_range
from cdiff_helpers.defaults import DEFAULT_SOLVER, DEFAULT_STEPS, GUIDANCE_SCALE  # noqa: F401
from cdiff_helpers.diffusion import DiffusionProcess, look_up
from cdiff_helpers.runtime import autocast
from cdiff_helpers.validation import checked, unchecked

IMAGE_SHAPE = (3, 32, 32)
SIGMA_MAX = 80.0  # noise over signal where EDM begins (arXiv:2206.00364, table 1)


@dataclass(frozen=True)
class Frame:
    """One step of sampling: timestep t, the noisy images xt, and x0, their clamped prediction.

    xt and x0 are float32 (N, 3, 32, 32). The last frame has t = -1 and xt = x0, clean.
    `before` is the frame one step earlier, without its own `before`; None for the first.
    """

    t: int
    xt: Tensor
    x0: Tensor
    before: "Frame | None" = None


@checked
def guided_noise(
    model: Callable,
    xt: Tensor,
    t: Tensor,
    y: Tensor,
    null_class: int,
    guidance_scale: float,
) -> Tensor:
    """The noise predicted with the class, moved away from the unconditional one: (B, 3, H, W).

    eps_null + guidance_scale * (eps_y - eps_null): 1 is the plain conditional model, 0 ignores
    the class. The paper's w (eq. 6) is guidance_scale - 1. At 1 the network is evaluated once.
    """
    if guidance_scale == 1:
        return model(xt, t, y)
    both = torch.cat([y, torch.full_like(y, null_class)])  # one call of 2B: (B,) -> (2B,)
    eps_y, eps_null = model(torch.cat([xt, xt]), torch.cat([t, t]), both).chunk(2)
    return eps_null + guidance_scale * (eps_y - eps_null)


def respaced_times(num_steps: int, count: int) -> list[int]:
    """`count` distinct timesteps, evenly spaced from T-1 down to 0."""
    count = validation.whole("count", count, 1, num_steps)
    even = torch.linspace(num_steps - 1, 0, count, dtype=torch.float64, device="cpu")
    return even.round().int().tolist()


def log_snr_times(process: DiffusionProcess, count: int) -> list[int]:
    """`count` distinct timesteps: T-1, then evenly spaced in λ from σ = SIGMA_MAX down to 0.

    λ as in DPM-Solver (Lu et al. 2022, arXiv:2206.00927, section 3.4), σ = e^{-λ}. The cosine
    schedule's last timesteps lie far beyond that σ, and little happens there.
    """
    count = validation.whole("count", count, 1, process.num_steps)
    lambdas = half_log_snr(process.alpha_bar)
    top = -math.log(SIGMA_MAX)
    even = torch.linspace(lambdas[0], top, count - 1, dtype=torch.float64, device="cpu").flip(0)
    return [process.num_steps - 1, *nearest_times(lambdas[:-1], even)]


def nearest_times(table: Tensor, values: Tensor) -> list[int]:
    """Where the table's entries are nearest to the values, falling, each entry once."""
    if not len(values):
        return []
    times = (table - values[:, None]).abs().argmin(dim=1).tolist()  # (count, T) -> (count,)
    for k in range(1, len(times)):  # an entry that is taken already: the next lower one
        times[k] = min(times[k], times[k - 1] - 1)
    return [max(t, len(times) - 1 - k) for k, t in enumerate(times)]  # with room for the others


def half_log_snr(alpha_bar: Tensor) -> Tensor:
    """λ = log(√ᾱ / √(1-ᾱ)), half the log of the signal-to-noise ratio: float64, on the CPU."""
    return 0.5 * torch.logit(alpha_bar.cpu().double())  # Apple's GPUs have no float64


def ddpm_step(
    process: DiffusionProcess,
    frame: Frame,
    t_prev: int,
    draw: Callable[[], Tensor],
    *,
    variance: str = "posterior",
) -> Tensor:
    """One ancestral step to t_prev: the posterior's mean plus fresh noise. DDPM, algorithm 2.

    `variance` is "posterior" (β̃, the lower bound of section 3.2) or "beta" (β, the upper one).
    Towards the clean image, t_prev = -1, neither adds noise.
    """
    t, before = batch_times(frame, t_prev)
    mean, sigma2 = process.posterior(frame.x0, frame.xt, t, before)
    if variance == "beta" and t_prev >= 0:
        sigma2 = 1 - process.alpha_bar[frame.t] / process.alpha_bar[t_prev]
    return mean + sigma2.sqrt() * draw() if t_prev >= 0 else mean


def ddim_step(
    process: DiffusionProcess,
    frame: Frame,
    t_prev: int,
    draw: Callable[[], Tensor],
    *,
    eta: float = 0.0,
) -> Tensor:
    """One step to t_prev along the noise that xt and x0 imply. DDIM, eq. 12 and 16.

    `eta` 0 adds no fresh noise; 1 adds as much as an ancestral step with the posterior's variance.
    """
    t, before = batch_times(frame, t_prev)
    alpha_bar, alpha_bar_prev = (look_up(process.alpha_bar, i, frame.xt) for i in (t, before))
    _, variance = process.posterior(frame.x0, frame.xt, t, before)
    sigma2 = eta**2 * variance
    eps = (frame.xt - alpha_bar.sqrt() * frame.x0) / (1 - alpha_bar).sqrt()
    direction = (1 - alpha_bar_prev - sigma2).clamp(min=0).sqrt() * eps
    mean = alpha_bar_prev.sqrt() * frame.x0 + direction
    return mean + sigma2.sqrt() * draw() if eta else mean


def dpmpp_2m_step(
    process: DiffusionProcess,
    frame: Frame,
    t_prev: int,
    draw: Callable[[], Tensor],
    *,
    lambdas: Tensor | None = None,
) -> Tensor:
    """One step to t_prev along the line through this prediction and the last, without noise.

    DPM-Solver++(2M), algorithm 2: λ = log(√ᾱ / √(1-ᾱ)), h the step in λ, r the last step's share
    of it. The first step and the one to the clean image (h infinite) have one prediction: DDIM's.
    `lambdas` (T,) saves computing `half_log_snr` of the process, for which a GPU would be waited.
    """
    t, before = batch_times(frame, t_prev)
    alpha_bar, alpha_bar_prev = (look_up(process.alpha_bar, i, frame.xt) for i in (t, before))
    D = frame.x0
    if frame.before is not None and t_prev >= 0:
        lambdas = half_log_snr(process.alpha_bar) if lambdas is None else lambdas
        lambda_before, lambda_t, lambda_prev = lambdas[[frame.before.t, frame.t, t_prev]].tolist()
        r = (lambda_t - lambda_before) / (lambda_prev - lambda_t)
        D = (1 + 1 / (2 * r)) * frame.x0 - 1 / (2 * r) * frame.before.x0
    sigma_ratio = ((1 - alpha_bar_prev) / (1 - alpha_bar)).sqrt()  # σ_prev / σ_t
    decay = sigma_ratio * (alpha_bar / alpha_bar_prev).sqrt()  # e^{-h}
    return sigma_ratio * frame.xt + alpha_bar_prev.sqrt() * (1 - decay) * D


SOLVERS: dict[str, Callable] = {
    "ddpm": ddpm_step,
    "ddim": ddim_step,
    "dpm++2m": dpmpp_2m_step,
}


@torch.no_grad()
def denoise(
    model: Callable,
    process: DiffusionProcess,
    labels: Tensor | Sequence[int],
    *,
    solver: str | Callable = DEFAULT_SOLVER,
    num_steps: int | Sequence[int] | None = None,
    guidance_scale: float = 1.0,
    guidance_interval: tuple[int, int] | None = None,
    seed: int = 0,
    clamp: bool = True,
    precision: str = "auto",
) -> Iterator[Frame]:
    """Generate one image per label: num_steps + 1 frames from pure noise to clean images.

    `model` is anything callable as f(xt, t, y) -> eps; `labels` (N,) are classes. `solver` is
    "dpm++2m", "ddim", "ddpm" or a step such as partial(ddim_step, eta=1.0). `num_steps` None is the
    solver's own; falling timesteps are taken as they are. `guidance_interval` (lowest, highest)
    guides at those timesteps alone (Kynkäänniemi et al. 2024, arXiv:2404.07724), elsewhere the
    scale is 1. Image i starts from `seed + i`, whatever the batch. `clamp` keeps x0 in [-1, 1]. On
    CUDA the network computes in bfloat16 or float16, unless `precision` is "float32".
    """
    asked = {"guidance_scale": guidance_scale, "precision": precision}
    labels, null_class = validation.sampling(model, process, labels, **asked)
    step, times = solver_and_times(process, solver, num_steps)
    lowest, highest = validation.interval(guidance_interval, process.num_steps)
    draw = seeded_noise(seed, len(labels), labels.device)
    frame, xt = None, draw()
    half = autocast(xt.device, precision if xt.is_cuda else "float32")
    with evaluating(model):
        network, process, predict = map(unchecked, (model, process, guided_noise))
        for t, t_prev in zip(times, [*times[1:], -1]):
            t_batch = torch.full_like(labels, t)
            scale = guidance_scale if lowest <= t <= highest else 1
            with half:
                eps = predict(network, xt, t_batch, labels, null_class, scale)
            x0 = process.predict_x0(xt, t_batch, eps)
            before = frame and replace(frame, before=None)  # one step back, not all of them
            frame = Frame(t, xt, x0.clamp(-1, 1) if clamp else x0, before)
            yield frame
            xt = step(process, frame, t_prev, draw)
    yield Frame(-1, xt, xt)


def sample_conditional_images(
    model: Callable,
    process: DiffusionProcess,
    labels: Tensor | Sequence[int],
    *,
    batch_size: int = 100,
    seed: int = 0,
    **options,
) -> Tensor:
    """One image per label, from pure noise: float32 (N, 3, 32, 32) in [0, 1].

    The options are `denoise`'s. At most `batch_size` images are generated at a time; that changes
    the memory needed and no image.
    """
    batch_size = validation.whole("batch_size", batch_size)
    labels = validation.labels(labels)
    seed = validation.seed(seed, len(labels))
    images = []
    for start in range(0, len(labels), batch_size):
        some = labels[start : start + batch_size]
        for frame in denoise(model, process, some, seed=seed + start, **options):
            last = frame  # one frame in memory, not all of them
        images.append(to_image_range(last.xt))  # [-1, 1] -> [0, 1]
    return torch.cat(images)


def seeded_noise(seed: int, count: int, device: torch.device) -> Callable[[], Tensor]:
    """A function that draws standard normal noise (count, 3, 32, 32), image i from seed + i.

    Each image has a generator of its own on the CPU, so that neither its neighbors in the batch
    nor the device change it.
    """
    seed = validation.seed(seed, count)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]

    def draw() -> Tensor:
        noise = torch.empty(count, *IMAGE_SHAPE, dtype=torch.float32, device="cpu")
        for image, generator in zip(noise, generators):
            image.normal_(generator=generator)
        return noise.to(device)

    return draw


def batch_times(frame: Frame, t_prev: int) -> tuple[Tensor, Tensor]:
    """frame.t and t_prev, once for each image: two int64 (N,)."""
    t = torch.full((len(frame.xt),), frame.t, device=frame.xt.device)
    return t, torch.full_like(t, t_prev)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within this block a network is in eval mode; afterwards it is as before."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def solver_and_times(process: Any, solver: Any, num_steps: Any) -> tuple[Callable, list[int]]:
    """The solver's step and the timesteps it visits. Raises ValueError for invalid ones."""
    T = process.num_steps
    step = solver if callable(solver) else SOLVERS[validation.choice("solver", solver, SOLVERS)]
    if np.ndim(num_steps) == 1:
        return step, validation.falling("num_steps", num_steps, T)
    if num_steps is None:
        num_steps = min(DEFAULT_STEPS.get(solver) or T, T)
    num_steps = validation.whole(
        "num_steps", num_steps, 1, T, hint=", or None for the solver's own"
    )
    if step is not dpmpp_2m_step:
        return step, respaced_times(T, num_steps)
    lambdas = half_log_snr(process.alpha_bar)  # of all t at once: the step looks them up
    return partial(step, lambdas=lambdas), log_snr_times(process, num_steps)
