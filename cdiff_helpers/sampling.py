"""Sampling: from pure noise back to pictures, class by class.

Home: notebook 06. DDPM (arXiv:2006.11239), algorithm 2; DDIM (Song et al. 2021,
arXiv:2010.02502), eq. 12; DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), algorithm 2;
classifier-free guidance (arXiv:2207.12598), eq. 6.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from cdiff_helpers.defaults import DEFAULT_SOLVER, DEFAULT_STEPS
from cdiff_helpers.defaults import GUIDANCE_SCALE as GUIDANCE_SCALE
from cdiff_helpers.diffusion import (
    DiffusionProcess,
    check_number,
    check_same_num_steps,
    check_whole,
    described,
    look_up,
)
from cdiff_helpers.runtime import autocast

IMAGE_SHAPE = (3, 32, 32)
SIGMA_MAX = 80.0  # noise over signal where EDM begins (arXiv:2206.00364, table 1)


@dataclass(frozen=True)
class Frame:
    """One moment of sampling: time t, the noisy pictures xt, and the clamped guess x0 at them.

    xt and x0 are float32 (N, 3, 32, 32). The last frame has t = -1 and xt = x0, clean.
    `before` is the frame one step earlier, without its own `before`; None for the first.
    """

    t: int
    xt: Tensor
    x0: Tensor
    before: "Frame | None" = None


def guided_noise(
    model: Callable,
    xt: Tensor,
    t: Tensor,
    y: Tensor,
    null_class: int | None,
    guidance_scale: float,
) -> Tensor:
    """The noise as seen with the class, pushed away from how it is seen without: (B, 3, H, W).

    eps_null + guidance_scale * (eps_y - eps_null): 1 is the plain conditional model, 0 ignores
    the class. The paper's w (eq. 6) is guidance_scale - 1. At 1 the network is asked once.
    """
    check_number("guidance_scale", guidance_scale)
    if guidance_scale == 1:
        return model(xt, t, y)
    check_whole("null_class", null_class, 0, hint=": model.null_class")
    both = torch.cat([y, torch.full_like(y, null_class)])  # one call of 2B: (B,) -> (2B,)
    eps_y, eps_null = model(torch.cat([xt, xt]), torch.cat([t, t]), both).chunk(2)
    return eps_null + guidance_scale * (eps_y - eps_null)


def respaced_times(num_steps: int, count: int) -> list[int]:
    """`count` distinct times, evenly spaced from T-1 down to 0."""
    even = torch.linspace(num_steps - 1, 0, count, dtype=torch.float64, device="cpu")
    return even.round().int().tolist()


def log_snr_times(process: DiffusionProcess, count: int) -> list[int]:
    """`count` distinct times: T-1, then evenly spaced in λ from σ = SIGMA_MAX down to 0.

    λ as in DPM-Solver (Lu et al. 2022, arXiv:2206.00927, section 3.4), σ = e^{-λ}. The cosine
    schedule's last times lie far beyond that σ, and little happens there.
    """
    lambdas = half_log_snr(process.alpha_bar)
    top = -math.log(SIGMA_MAX)
    wanted = torch.linspace(lambdas[0], top, count - 1, dtype=torch.float64, device="cpu").flip(0)
    return [process.num_steps - 1, *nearest_times(lambdas[:-1], wanted)]


def nearest_times(table: Tensor, wanted: Tensor) -> list[int]:
    """The places of the table's entries nearest to the wanted values, falling, each of them once.

    Both are 1-D; the table has at least as many entries as are wanted.
    """
    if not len(wanted):
        return []
    times = (table - wanted[:, None]).abs().argmin(dim=1).tolist()  # (count, T) -> (count,)
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
    Towards the clean picture, t_prev = -1, neither adds noise.
    """
    t, before = batch_times(frame, t_prev)
    mean, sigma2 = process.posterior(frame.x0, frame.xt, t, before)
    if variance == "beta" and t_prev >= 0:
        alpha = process.alpha_bar[frame.t] / process.alpha_bar[t_prev]
        sigma2 = 1 - alpha
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
    alpha_bar_prev = look_up(process.alpha_bar, before, frame.xt)
    _, variance = process.posterior(frame.x0, frame.xt, t, before)
    sigma2 = eta**2 * variance
    eps = process.predict_noise(frame.xt, t, frame.x0)
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
    """One step to t_prev along the line through this guess and the one before it, without noise.

    DPM-Solver++(2M), algorithm 2: λ = log(√ᾱ / √(1-ᾱ)), h the step in λ, r the last step's share
    of it. The first step and the one to the clean picture (h infinite) know one guess: DDIM's.
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


SOLVERS = {"ddpm": ddpm_step, "ddim": ddim_step, "dpm++2m": dpmpp_2m_step}


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
    """Draw one picture a label, yielding num_steps + 1 frames from pure noise to clean pictures.

    `model` is anything callable as f(xt, t, y) -> eps; `labels` (N,) are classes. `solver` is
    "dpm++2m", "ddim", "ddpm" or a step such as partial(ddim_step, eta=1.0). `num_steps` None is the
    solver's own; a list of falling times is taken as it is. `guidance_interval` (lowest, highest)
    guides at those times alone (Kynkäänniemi et al. 2024, arXiv:2404.07724), elsewhere the scale is
    1. Picture i starts from `seed + i`, whatever the batch. `clamp` keeps x0 in [-1, 1]. On CUDA
    the network computes in bfloat16 or float16, unless `precision` is "float32".
    """
    labels = check_labels(labels, model, process)
    step, times = solver_and_times(process, solver, num_steps)
    check_model(model, process, guidance_scale)
    lowest, highest = check_interval(guidance_interval or (0, process.num_steps - 1), process)
    null_class = None if guidance_scale == 1 else model.null_class
    draw = seeded_noise(seed, len(labels), process.alpha_bar.device)
    xt = draw()
    frame = None
    with evaluating(model):
        for t, t_prev in zip(times, [*times[1:], -1]):
            t_batch = torch.full_like(labels, t)
            scale = guidance_scale if lowest <= t <= highest else 1
            with half_precision(xt.device, precision):
                eps = guided_noise(model, xt, t_batch, labels, null_class, scale)
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
    """One picture a label, from pure noise: float32 (N, 3, 32, 32) in [0, 1].

    The options are `denoise`'s. At most `batch_size` pictures are drawn at a time; that changes
    the memory needed and no picture.
    """
    check_whole("batch_size", batch_size)
    check_seed(seed)
    labels = check_labels(labels, model, process)
    images = []
    for start in range(0, len(labels), batch_size):
        some = labels[start : start + batch_size]
        *_, last = denoise(model, process, some, seed=seed + start, **options)
        images.append(((last.xt + 1) / 2).clamp(0, 1))  # [-1, 1] -> [0, 1]
    return torch.cat(images)


def seeded_noise(seed: int, count: int, device: torch.device) -> Callable[[], Tensor]:
    """A function that draws standard normal noise (count, 3, 32, 32), picture i from seed + i.

    Each picture has a generator of its own on the CPU, so that neither its neighbours in the batch
    nor the device change it.
    """
    check_seed(seed)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]

    def draw() -> Tensor:
        each = {"device": "cpu", "dtype": torch.float32}
        noise = [torch.randn(IMAGE_SHAPE, generator=g, **each) for g in generators]
        return torch.stack(noise).to(device)

    return draw


def check_seed(seed: int) -> None:
    """Raise ValueError unless pictures can be drawn from seed, seed + 1, …"""
    check_whole("seed", seed, 0)
    if seed >= 2**62:
        raise ValueError(f"seed is {seed}; expected a whole number from 0 to below 2**62.")


def batch_times(frame: Frame, t_prev: int) -> tuple[Tensor, Tensor]:
    """frame.t and t_prev, once for each picture: two int64 (N,)."""
    t = torch.full((len(frame.xt),), frame.t, device=frame.xt.device)
    return t, torch.full_like(t, t_prev)


def half_precision(device: torch.device, precision: str) -> AbstractContextManager:
    """The block in which a network on CUDA computes in `autocast_dtype`'s format."""
    half = autocast(device, precision)
    return half if device.type == "cuda" else nullcontext()


@contextmanager
def evaluating(model: Callable) -> Iterator[None]:
    """Within this block a network is in eval mode; afterwards it is as before."""
    training = isinstance(model, nn.Module) and model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def check_labels(
    labels: Tensor | Sequence[int], model: Callable, process: DiffusionProcess
) -> Tensor:
    """The labels as int64 (N,) on the process's device; raises ValueError for what is no class."""
    check_same_num_steps(model, process)
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"labels is {described(labels)}; expected whole numbers, such as [3, 3, 5]. "
            "data.class_indices(['cat']) gives those of names."
        ) from None
    if labels.ndim != 1 or not len(labels) or labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}; expected at least "
            "one whole number per image, such as [3, 3, 5]."
        )
    highest = getattr(model, "null_class", None)
    if int(labels.min()) < 0 or (highest is not None and int(labels.max()) > highest):
        raise ValueError(
            f"labels holds values from {int(labels.min())} to {int(labels.max())}; expected "
            f"0 … {'the last class' if highest is None else highest - 1}"
            f"{'' if highest is None else f', or null_class = {highest} for no class'}."
        )
    return labels.long().to(process.alpha_bar.device)


def solver_and_times(
    process: DiffusionProcess, solver: str | Callable, num_steps: int | Sequence[int] | None
) -> tuple[Callable, list[int]]:
    """The solver's step and the times it visits; raises ValueError for what cannot be."""
    if not callable(solver) and not (isinstance(solver, str) and solver in SOLVERS):
        raise ValueError(f"solver is {solver!r}; expected one of {', '.join(SOLVERS)}, or a step.")
    if isinstance(num_steps, Sequence) and not isinstance(num_steps, str):
        return SOLVERS.get(solver, solver), check_times(process, num_steps)
    if num_steps is None:
        num_steps = min(DEFAULT_STEPS.get(solver) or process.num_steps, process.num_steps)
    whole = isinstance(num_steps, int) and not isinstance(num_steps, bool)
    if not whole or not 1 <= num_steps <= process.num_steps:
        raise ValueError(
            f"num_steps is {num_steps!r}; expected a whole number from 1 to the process's "
            f"{process.num_steps}, or None for the solver's own."
        )
    if solver in ("dpm++2m", dpmpp_2m_step):
        lambdas = half_log_snr(process.alpha_bar)  # of all t at once: the step looks them up
        return partial(dpmpp_2m_step, lambdas=lambdas), log_snr_times(process, num_steps)
    return SOLVERS.get(solver, solver), respaced_times(process.num_steps, num_steps)


def check_times(process: DiffusionProcess, times: Sequence[int]) -> list[int]:
    """The times as a list; raises ValueError unless they fall and lie in 0 … T-1."""
    times = list(times)
    falling = all(before > after for before, after in itertools.pairwise(times))
    falling &= all(isinstance(t, int) for t in times)
    if not times or not falling or not 0 <= times[-1] <= times[0] < process.num_steps:
        raise ValueError(
            f"num_steps is {times}; expected falling times from 0 to {process.num_steps - 1}, each "
            "of them once, or their number."
        )
    return times


def check_interval(interval: tuple[int, int], process: DiffusionProcess) -> tuple[int, int]:
    """The interval as it is; raises ValueError unless it is (lowest, highest) of the times."""
    pair = isinstance(interval, Sequence) and [type(t) for t in interval] == [int, int]
    lowest, highest = interval if pair else (1, 0)
    if not 0 <= lowest <= highest < process.num_steps:
        raise ValueError(
            f"guidance_interval is {interval!r}; expected (lowest, highest) with times from 0 to "
            f"{process.num_steps - 1}, or None to guide at all of them."
        )
    return lowest, highest


def check_model(model: Callable, process: DiffusionProcess, guidance_scale: float) -> None:
    """Raise ValueError unless the model, the process and the guidance scale fit together."""
    check_number(
        "guidance_scale",
        guidance_scale,
        " 1 is the plain conditional model, 1.5 to 4 follow the class more strictly.",
    )
    if guidance_scale != 1 and not hasattr(model, "null_class"):
        raise ValueError(
            f"guidance_scale is {guidance_scale}; expected 1, since the model has no null_class to "
            "ask without a class. Set model.null_class, or use guidance_scale=1."
        )
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    if parameters and parameters[0].device != process.alpha_bar.device:
        raise ValueError(
            f"the model is on {parameters[0].device}, the process on {process.alpha_bar.device}; "
            "expected one device. Move both: model.to(device), process.to(device)."
        )
