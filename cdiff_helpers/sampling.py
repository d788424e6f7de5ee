"""Sampling: from pure noise back to pictures, class by class.

Home: notebook 06. DDPM (arXiv:2006.11239), algorithm 2; DDIM (Song et al. 2021,
arXiv:2010.02502), eq. 12; classifier-free guidance (arXiv:2207.12598), eq. 6.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cdiff_helpers.diffusion import DiffusionProcess, check_same_num_steps, look_up

IMAGE_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Frame:
    """One moment of sampling: time t, the noisy pictures xt, and the clamped guess x0 at them.

    xt and x0 are float32 (N, 3, 32, 32). The last frame has t = -1 and xt = x0, clean.
    """

    t: int
    xt: Tensor
    x0: Tensor


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
    if guidance_scale == 1:
        return model(xt, t, y)
    both = torch.cat([y, torch.full_like(y, null_class)])  # one call of 2B: (B,) -> (2B,)
    eps_y, eps_null = model(torch.cat([xt, xt]), torch.cat([t, t]), both).chunk(2)
    return eps_null + guidance_scale * (eps_y - eps_null)


def respaced_times(num_steps: int, count: int) -> list[int]:
    """`count` distinct times, evenly spaced from T-1 down to 0."""
    return torch.linspace(num_steps - 1, 0, count, dtype=torch.float64).round().int().tolist()


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


SOLVERS = {"ddpm": ddpm_step, "ddim": ddim_step}
DEFAULT_STEPS = {"ddim": 50}  # "ddpm" takes all of them


@torch.no_grad()
def denoise(
    model: Callable,
    process: DiffusionProcess,
    labels: Tensor | Sequence[int],
    *,
    solver: str | Callable = "ddpm",
    num_steps: int | None = None,
    guidance_scale: float = 1.0,
    seed: int = 0,
    clamp: bool = True,
) -> Iterator[Frame]:
    """Draw one picture a label, yielding num_steps + 1 frames from pure noise to clean pictures.

    `model` is anything callable as f(xt, t, y) -> eps; `labels` (N,) are classes. `solver` is
    "ddpm", "ddim" or a step such as partial(ddim_step, eta=1.0). `num_steps` None is the solver's
    own. Picture i starts from `seed + i`, whatever the batch. `clamp` keeps x0 in [-1, 1].
    """
    labels = check_labels(labels, model, process)
    step, times = solver_and_times(process, solver, num_steps)
    check_model(model, process, guidance_scale)
    null_class = None if guidance_scale == 1 else model.null_class
    draw = seeded_noise(seed, len(labels), process.alpha_bar.device)
    xt = draw()
    with evaluating(model):
        for t, t_prev in zip(times, [*times[1:], -1]):
            t_batch = torch.full_like(labels, t)
            eps = guided_noise(model, xt, t_batch, labels, null_class, guidance_scale)
            x0 = process.predict_x0(xt, t_batch, eps)
            frame = Frame(t, xt, x0.clamp(-1, 1) if clamp else x0)
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
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]

    def draw() -> Tensor:
        return torch.stack([torch.randn(IMAGE_SHAPE, generator=g) for g in generators]).to(device)

    return draw


def batch_times(frame: Frame, t_prev: int) -> tuple[Tensor, Tensor]:
    """frame.t and t_prev, once for each picture: two int64 (N,)."""
    t = torch.full((len(frame.xt),), frame.t, device=frame.xt.device)
    return t, torch.full_like(t, t_prev)


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
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}; expected at least "
            "one whole number a picture, such as [3, 3, 5]."
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
    process: DiffusionProcess, solver: str | Callable, num_steps: int | None
) -> tuple[Callable, list[int]]:
    """The solver's step and the times it visits; raises ValueError for what cannot be."""
    if not callable(solver) and solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; expected one of {', '.join(SOLVERS)}, or a step.")
    if num_steps is None:
        num_steps = min(DEFAULT_STEPS.get(solver, process.num_steps), process.num_steps)
    if not isinstance(num_steps, int) or not 1 <= num_steps <= process.num_steps:
        raise ValueError(
            f"num_steps is {num_steps!r}; expected a whole number from 1 to the process's "
            f"{process.num_steps}, or None for the solver's own."
        )
    return SOLVERS.get(solver, solver), respaced_times(process.num_steps, num_steps)


def check_model(model: Callable, process: DiffusionProcess, guidance_scale: float) -> None:
    """Raise ValueError unless the model, the process and the guidance scale fit together."""
    check_same_num_steps(model, process)
    if not math.isfinite(guidance_scale):
        raise ValueError(
            f"guidance_scale is {guidance_scale}; expected a finite number. 1 is the plain "
            "conditional model, 1.5 to 3 follow the class more strictly."
        )
    if guidance_scale != 1 and not hasattr(model, "null_class"):
        raise ValueError(
            f"guidance_scale is {guidance_scale}, but the model has no null_class to ask without "
            "a class. Set model.null_class, or use guidance_scale=1."
        )
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    if parameters and parameters[0].device != process.alpha_bar.device:
        raise ValueError(
            f"the model is on {parameters[0].device}, the process on {process.alpha_bar.device}; "
            "expected one device. Move both: model.to(device), process.to(device)."
        )
