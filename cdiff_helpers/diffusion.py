"""The diffusion process: how an image becomes noise, and what is known about the way back.

Home: notebook 03. Letters follow Ho et al. 2020 (DDPM, arXiv:2006.11239) and Nichol & Dhariwal
2021 (Improved DDPM, arXiv:2102.09672), except that timesteps count from 0: the tables have length T
and t runs over 0 … T-1.
"""

import math

import torch
from torch import Tensor, nn

from cdiff_helpers import validation
from cdiff_helpers.validation import checked

MAX_BETA = 0.999  # beyond it the last step would erase everything: 1 / (1 - beta) blows up


def cosine_alpha_bar(num_steps: int, s: float = 0.008) -> Tensor:
    """The cosine schedule's ᾱ for t = 0 … T-1: float64 (T,), falling from almost 1 to 0.

    Improved DDPM, eq. 17: ᾱ = f(u) / f(0), f(u) = cos²(π/2 · (u + s) / (1 + s)), u = (t + 1) / T.
    """
    num_steps, s = validation.whole("num_steps", num_steps), validation.number("s", s, 0)
    t = torch.arange(1, num_steps + 1, dtype=torch.float64, device="cpu")  # where float64 exists
    u = t / num_steps  # (T,)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return f / math.cos(s / (1 + s) * math.pi / 2) ** 2


def cosine_betas(num_steps: int) -> Tensor:
    """The cosine schedule's β_t, at most 0.999: float64 (T,)."""
    return betas_of(cosine_alpha_bar(num_steps)).clamp(max=MAX_BETA)


def betas_of(alpha_bar: Tensor) -> Tensor:
    """The β_t = 1 - ᾱ_t / ᾱ_{t-1} of a table ᾱ (T,): float64 (T,)."""
    alpha_bar = alpha_bar.double()
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])  # ᾱ_{-1} = 1: nothing is lost yet
    return 1 - alpha_bar / before


class DiffusionProcess(nn.Module):
    """The forward process q and its tables `betas`, `alphas`, `alpha_bar`: float32 (T,).

    Images are float (B, C, H, W) in [-1, 1], t is int64 (B,) in 0 … T-1. `betas` (T,) in (0, 1)
    replaces the cosine schedule. Raises ValueError for an invalid schedule or unfit arguments.
    """

    betas: Tensor
    alphas: Tensor
    alpha_bar: Tensor

    def __init__(self, num_steps: int = 1000, *, betas: Tensor | None = None):
        super().__init__()
        device = getattr(betas, "device", torch.empty(0).device)
        self.num_steps = T = validation.whole("num_steps", num_steps, hint=", such as DDPM's 1000")
        table = cosine_betas(T) if betas is None else validation.table("betas", betas, T)
        alpha_bar = (1 - table).cumprod(0)  # float64: products of T factors lose digits in float32
        tables = {"betas": table, "alphas": 1 - table, "alpha_bar": alpha_bar}
        tables["one_minus_alpha_bar"] = 1 - alpha_bar  # float32 has no digits for it near ᾱ = 1
        for name, values in tables.items():
            self.register_buffer(name, values.float().to(device), persistent="minus" not in name)

    @checked
    def add_noise(self, x0: Tensor, t: Tensor, noise=None, generator=None) -> tuple[Tensor, Tensor]:
        """Jump from x0 straight to x_t; returns (xt, noise), both shaped like x0. DDPM, eq. 4.

        `noise` is drawn from the torch.Generator `generator` where it is not given.
        """
        noise = gaussian_like(x0, generator) if noise is None else noise
        alpha_bar = look_up(self.alpha_bar, t, x0)  # (B,) -> (B, 1, 1, 1)
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise, noise

    @checked
    def predict_x0(self, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The clean image that xt and the noise eps imply, not clamped. DDPM, eq. 4 solved."""
        alpha_bar = look_up(self.alpha_bar, t, xt)
        return (xt - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()

    @checked
    def predict_noise(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """The noise that xt and the clean image x0 imply. DDPM, eq. 4 solved for it."""
        alpha_bar = look_up(self.alpha_bar, t, xt)
        return (xt - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()

    @checked
    def posterior(self, x0_hat: Tensor, xt: Tensor, t: Tensor, t_prev=None) -> tuple:
        """Mean (B, C, H, W) and variance (B, 1, 1, 1) of q(x_{t_prev} | x_t, x_0). DDPM, eq. 6-7.

        `t_prev` (B,) is any earlier timestep, -1 the clean image, None t - 1. Skipping from t to
        t_prev is one step of a coarser chain, whose α is ᾱ_t / ᾱ_{t_prev}.
        """
        alpha_bar, one_minus = levels(self, t, xt)
        alpha_bar_prev, one_minus_prev = levels(self, t - 1 if t_prev is None else t_prev, xt)
        alpha = alpha_bar / alpha_bar_prev
        lost = torch.where(alpha_bar > 0.5, one_minus - one_minus_prev, alpha_bar_prev - alpha_bar)
        beta = lost / alpha_bar_prev  # 1 - α, from whichever difference has more digits
        from_x0 = alpha_bar_prev.sqrt() * beta / one_minus
        from_xt = alpha.sqrt() * one_minus_prev / one_minus
        return from_x0 * x0_hat + from_xt * xt, one_minus_prev / one_minus * beta


def look_up(table: Tensor, t: Tensor, like: Tensor, clean: float = 1.0) -> Tensor:
    """Entry t[i] of the table (T,) for image i, shaped to broadcast: t (B,) -> (B, 1, 1, 1).

    Where t is -1 the image is still clean, and the entry is `clean`: 1 for ᾱ.
    """
    entries = table.gather(0, t.clamp(min=0))
    return entries.where(t >= 0, clean).view(-1, *[1] * (like.ndim - 1))


def levels(process, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """ᾱ_t and 1 - ᾱ_t of each image; the second has all its digits where ᾱ_t is almost 1.

    They are in `one_minus_alpha_bar`, as long as that table belongs to the process's ᾱ.
    """
    alpha_bar = look_up(process.alpha_bar, t, like)
    table = getattr(process, "one_minus_alpha_bar", 1 - process.alpha_bar)
    exact, rounded = look_up(table, t, like, clean=0.0), 1 - alpha_bar
    return alpha_bar, torch.where((exact - rounded).abs() < 1e-6, exact, rounded)


def gaussian_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise shaped like x, drawn where the generator lives, moved to x's device."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
