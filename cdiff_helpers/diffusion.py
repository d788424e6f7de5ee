"""The diffusion process: how a picture becomes noise, and what is known about the way back.

Home: notebook 03. Letters follow Ho et al. 2020 (DDPM, arXiv:2006.11239) and Nichol & Dhariwal
2021 (Improved DDPM, arXiv:2102.09672), except that time counts from 0: the tables have length T
and t runs over 0 … T-1.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import Tensor, nn

MAX_BETA = 0.999  # beyond it the last step would erase everything: 1 / (1 - beta) blows up


def cosine_alpha_bar(num_steps: int, s: float = 0.008) -> Tensor:
    """The cosine schedule's ᾱ for t = 0 … T-1: float64 (T,), falling from almost 1 to 0.

    Improved DDPM, eq. 17: ᾱ = f(u) / f(0), f(u) = cos²(π/2 · (u + s) / (1 + s)), u = (t + 1) / T.
    """
    check_num_steps(num_steps)
    t = torch.arange(1, num_steps + 1, dtype=torch.float64, device="cpu")  # where float64 exists
    u = t / num_steps  # (T,)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2) ** 2


class DiffusionProcess(nn.Module):
    """The forward process q and its tables `betas`, `alphas`, `alpha_bar`: float32 (T,).

    Pictures are float (B, C, H, W) in [-1, 1], t is int64 (B,) in 0 … T-1. `betas` (T,) in (0, 1)
    replaces the cosine schedule by another one. Raises ValueError for a schedule that cannot be.
    """

    def __init__(self, num_steps: int = 1000, *, betas: Tensor | None = None):
        super().__init__()
        check_num_steps(num_steps)
        device = getattr(betas, "device", torch.empty(0).device)
        betas = cosine_betas(num_steps) if betas is None else check_betas(betas, num_steps)
        self.num_steps = num_steps
        alphas = 1 - betas  # float64 until here: products of T factors lose digits in float32
        self.register_buffer("betas", betas.float().to(device))
        self.register_buffer("alphas", alphas.float().to(device))
        self.register_buffer("alpha_bar", alphas.cumprod(0).float().to(device))

    def add_noise(self, x0: Tensor, t: Tensor, noise=None, generator=None) -> tuple[Tensor, Tensor]:
        """Jump from x0 straight to x_t; returns (xt, noise), both shaped like x0. DDPM, eq. 4.

        `noise` is drawn from the torch.Generator `generator` where it is not given.
        """
        check_pictures(x0, t, self.num_steps)
        noise = gaussian_like(x0, generator) if noise is None else check_like(x0, noise=noise)
        alpha_bar = look_up(self.alpha_bar, t, x0)  # (B,) -> (B, 1, 1, 1)
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise, noise

    def predict_x0(self, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The clean picture that xt and the noise eps imply, not clamped. DDPM, eq. 4 solved."""
        check_pictures(xt, t, self.num_steps, eps=eps)
        alpha_bar = look_up(self.alpha_bar, t, xt)
        return (xt - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()

    def predict_noise(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """The noise that xt and the clean picture x0 imply. DDPM, eq. 4 solved for it."""
        check_pictures(xt, t, self.num_steps, x0=x0)
        alpha_bar = look_up(self.alpha_bar, t, xt)
        return (xt - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()

    def posterior(
        self, x0_hat: Tensor, xt: Tensor, t: Tensor, t_prev=None
    ) -> tuple[Tensor, Tensor]:
        """Mean (B, C, H, W) and variance (B, 1, 1, 1) of q(x_{t_prev} | x_t, x_0). DDPM, eq. 6-7.

        `t_prev` (B,) is any earlier time, -1 the clean picture, None t - 1. Skipping from t to
        t_prev is one step of a coarser chain, whose α is ᾱ_t / ᾱ_{t_prev}.
        """
        check_pictures(xt, t, self.num_steps, x0_hat=x0_hat)
        t_prev = t - 1 if t_prev is None else check_earlier(t_prev, t)
        alpha_bar = look_up(self.alpha_bar, t, xt)
        alpha_bar_prev = look_up(self.alpha_bar, t_prev, xt)
        alpha = alpha_bar / alpha_bar_prev
        from_x0 = alpha_bar_prev.sqrt() * (1 - alpha) / (1 - alpha_bar)
        from_xt = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
        variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha)
        return from_x0 * x0_hat + from_xt * xt, variance


def look_up(alpha_bar: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Entry t[i] of the table ᾱ (T,) for picture i, shaped to broadcast: (B,) -> (B, 1, 1, 1).

    Where t is -1 the picture is still clean, and the entry is 1.
    """
    entries = alpha_bar.gather(0, t.clamp(min=0))
    return entries.where(t >= 0, 1.0).view(-1, *[1] * (like.ndim - 1))


def cosine_betas(num_steps: int) -> Tensor:
    """The cosine schedule's β_t = 1 - ᾱ_t / ᾱ_{t-1}, at most 0.999: float64 (T,)."""
    alpha_bar = cosine_alpha_bar(num_steps)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])  # ᾱ_{-1} = 1: nothing is lost yet
    return (1 - alpha_bar / before).clamp(max=MAX_BETA)


def gaussian_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise shaped like x, drawn where the generator lives, moved to x's device."""
    if generator is not None:
        check_is(torch.Generator, "Try torch.Generator().manual_seed(0).", generator=generator)
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def check_num_steps(num_steps: int) -> None:
    """Raise ValueError unless num_steps is a whole number of at least 1."""
    check_whole("num_steps", num_steps, hint=". Try 1000, as DDPM does")


def check_whole(name: str, value: int, lowest: int = 1, *, hint: str = "") -> None:
    """Raise ValueError unless the value is a whole number of at least `lowest`; True is none."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < lowest:
        raise ValueError(
            f"{name} is {value!r}; expected a whole number of at least {lowest}{hint}."
        )


def check_number(name: str, value: float, hint: str = "") -> None:
    """Raise ValueError unless the value is a finite number; True is none."""
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a finite number.{hint}")


def check_is(kind: type, hint: str = "", **values: object) -> None:
    """Raise ValueError unless each of the named values is of that type."""
    for name, value in values.items():
        if not isinstance(value, kind):
            told = f"{name} is {described(value)}; expected a {kind.__module__}.{kind.__name__}."
            raise ValueError(f"{told} {hint}".rstrip())


def described(value: object) -> str:
    """A value for a sentence: a tensor by its type, shape and device, others as they print."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}"
    words = repr(value)
    return words if len(words) < 80 and "\n" not in words else f"a {type(value).__name__}"


def check_betas(betas: Tensor, num_steps: int) -> Tensor:
    """The given betas as float64 (T,) on the CPU; raises ValueError unless T of them in (0, 1)."""
    try:
        betas = betas.cpu() if isinstance(betas, Tensor) else betas
        betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"betas is {betas!r}; expected {num_steps} numbers in (0, 1).") from None
    if betas.shape != (num_steps,):
        raise ValueError(
            f"betas has shape {tuple(betas.shape)}; expected ({num_steps},) for num_steps="
            f"{num_steps}. Give one beta per step or change num_steps."
        )
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError(
            f"betas lie in [{betas.min():.4g}, {betas.max():.4g}]; expected each inside (0, 1). "
            f"Clamp them, as the cosine schedule does: betas.clamp(1e-5, {MAX_BETA})."
        )
    return betas


def check_pictures(x: Tensor, t: Tensor, num_steps: int, **others: Tensor) -> None:
    """Raise ValueError unless x is a float batch and t holds one time in 0 … T-1 for each.

    The other tensors must be like x.
    """
    check_is(Tensor, "Try torch.as_tensor(…).", images=x, t=t)
    if not x.is_floating_point():
        raise ValueError(
            f"the images have dtype {x.dtype}; expected floats in [-1, 1]. "
            "Convert them with cdiff_helpers.data.to_model_range first."
        )
    if t.dtype != torch.int64 or t.shape != x.shape[:1] or t.device != x.device:
        raise ValueError(
            f"t is {described(t)}; expected one int64 time per image, shape ({len(x)},) on "
            f"{x.device}. Try torch.full(({len(x)},), 500)."
        )
    if may_look(t) and not 0 <= int(t.min()) <= int(t.max()) < num_steps:
        raise ValueError(
            f"t holds values from {int(t.min())} to {int(t.max())}; expected 0 … {num_steps - 1} "
            f"(counted from 0). Draw it with torch.randint(0, {num_steps}, …)."
        )
    if others:
        check_like(x, **others)


def may_look(x: Tensor) -> bool:
    """Whether a check may read the values of x: there are some, and nothing waits for the look.

    An accelerator's host would, where gather() raises instead; torch.compile and torch.export
    have no values to show.
    """
    return not torch.compiler.is_compiling() and x.device.type == "cpu" and x.numel() > 0


def check_like(x: Tensor, **others: Tensor) -> Tensor:
    """The last of the named tensors; raises ValueError unless all are floats shaped like x."""
    for name, other in others.items():
        same = isinstance(other, Tensor) and other.is_floating_point()
        if not same or other.shape != x.shape or other.device != x.device:
            raise ValueError(
                f"{name} is {described(other)}; expected floats like the images', of shape "
                f"{tuple(x.shape)} on {x.device}."
            )
    return other


def check_earlier(t_prev: Tensor, t: Tensor) -> Tensor:
    """t_prev as it is; raises ValueError unless it holds an earlier time, or -1, for each of t."""
    if not isinstance(t_prev, Tensor) or (t_prev.dtype, t_prev.shape) != (t.dtype, t.shape):
        raise ValueError(
            f"t_prev is {described(t_prev)}; expected int64 times of shape {tuple(t.shape)}, or "
            "None for t - 1."
        )
    if may_look(t) and not ((t_prev >= -1) & (t_prev < t)).all():
        raise ValueError(
            f"t_prev is {t_prev.tolist()} for t = {t.tolist()}; expected an earlier time for each, "
            "or -1 for the clean image."
        )
    return t_prev


def check_same_num_steps(model: Callable, process: DiffusionProcess) -> None:
    """Raise ValueError where a network was made for another number of steps than the process."""
    check_is(DiffusionProcess, process=process)
    if not callable(model):
        raise ValueError(f"model is {described(model)}; expected a network, f(xt, t, y) -> eps.")
    num_steps = getattr(model, "num_steps", process.num_steps)
    if num_steps != process.num_steps:
        raise ValueError(
            f"the network was made for num_steps={num_steps}, the process has "
            f"{process.num_steps}; expected the same, since the same t would mean different noise. "
            f"Use DiffusionProcess(num_steps={num_steps})."
        )
