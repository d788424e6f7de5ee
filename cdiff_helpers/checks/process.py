"""Checks of notebook 03's exercises: the diffusion process."""

import torch
from torch import Tensor

from cdiff_helpers import diffusion
from cdiff_helpers.checks.verdict import (
    Misconception,
    Wrong,
    call,
    call_tensor,
    close,
    diagnose,
    exercise,
    number,
    untouched,
)
from cdiff_helpers.diffusion import DiffusionProcess


@exercise(
    notebook="03",
    kind="build",
    points=3,
    minutes=10,
    signature="linear_alpha_bar(num_steps: int) -> Tensor (num_steps,)",
    misconceptions={
        "one_step": (
            "You return α, the share that one step keeps. ᾱ_t is what all steps up to t keep: "
            "the product of α_0 … α_t, a cumprod."
        ),
        "betas_multiplied": "You multiply the β. What multiplies is what is kept: α = 1 - β.",
        "summed": "You add the β up. Shares that are kept multiply: (1 - β_0)(1 - β_1) and so on.",
        "shifted": (
            "Your table starts at 1, one step early: ᾱ_0 is what is left after the first step, α_0."
        ),
        "not_scaled": (
            "Right for T = 1000, but a shorter process has to lose as much in fewer steps: scale "
            "both ends of β by 1000 / T."
        ),
    },
    praise="Right: ᾱ falls from almost 1 to almost 0, for any T above 20.",
)
def linear_alpha_bar(answer) -> None:
    """DDPM's linear schedule: β from 1e-4 to 0.02, both times 1000 / T; ᾱ is the product."""
    for num_steps in (1000, 100):
        scale = 1000 / num_steps
        betas = torch.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64)
        plain = torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)
        alphas, wanted = 1 - betas, (1 - betas).cumprod(0)
        value = call_tensor(answer, num_steps, shape=(num_steps,))
        mistakes = {
            "one_step": alphas,
            "betas_multiplied": betas.cumprod(0),
            "summed": 1 - betas.cumsum(0),
            "shifted": torch.cat([torch.ones(1), wanted[:-1]]),
            "not_scaled": (1 - plain).cumprod(0),
        }
        diagnose(value, wanted, mistakes, tolerance=1e-5)
        if not (value.diff() < 0).all():
            raise Wrong("your ᾱ does not fall at each step.")


@exercise(
    notebook="03",
    kind="build",
    points=3,
    minutes=12,
    signature="time_of_snr(alpha_bar: float (T,), snr: float) -> whole number in 0 … T-1",
    misconceptions={
        "amplitudes": (
            "You compare √ᾱ / √(1-ᾱ). That is the ratio of sizes; the signal-to-noise ratio is one "
            "of variances, its square."
        ),
        "only_the_signal": (
            "You compare ᾱ itself. The ratio also has the noise's variance below it: 1 - ᾱ."
        ),
        "upside_down": "Your ratio is noise over signal; turn it round.",
        "one_early": (
            "One too early: at your t the ratio is still at least as high as asked. The first time "
            "*below* it was asked for."
        ),
    },
    praise="Right: there the picture falls below that many times the noise.",
)
def time_of_snr(answer) -> None:
    """The first t with ᾱ_t / (1 - ᾱ_t) < snr."""
    for num_steps, snr in ((1000, 1.0), (1000, 0.1), (50, 4.0)):
        alpha_bar = diffusion.cosine_alpha_bar(num_steps)
        ratio = alpha_bar / (1 - alpha_bar)
        wanted = first_below(ratio, snr)
        with untouched(alpha_bar):
            value = number(call(answer, alpha_bar, snr))
        mistakes = {
            "amplitudes": first_below(ratio.sqrt(), snr),
            "only_the_signal": first_below(alpha_bar, snr),
            "upside_down": first_below(-1 / ratio, -snr),
            "one_early": wanted - 1,
        }
        for key, mistaken in mistakes.items():
            if value == mistaken != wanted:
                raise Misconception(key)
        if value != wanted:
            raise Wrong(
                f"for T = {num_steps} and a ratio of {snr} you say {value:g}, not {wanted}."
            )


def first_below(falling: Tensor, limit: float) -> int:
    """The first place at which a falling table is below the limit; its length if there is none."""
    return int((falling >= limit).sum())


@exercise(
    notebook="03",
    kind="bug",
    points=3,
    minutes=12,
    signature="noisy_at(alpha_bar: (T,), x0: (B, C, H, W), t: int64 (B,), noise) -> (B, C, H, W)",
    misconceptions={
        "columns": (
            "Each *column* of your pictures has a time of its own: (B,) lines up with the width. "
            "It is silent because here B equals W. One factor a picture has the shape (B, 1, 1, 1)."
        ),
        "variance": (
            "Your noise is scaled by the variance 1 − ᾱ; the standard deviation is its square root."
        ),
        "picture_not_rooted": "The picture counts √ᾱ; you take ᾱ itself.",
        "swapped": "You give the picture the noise's share, and the noise the picture's.",
        "one_time": "All pictures get the first one's time; t has an entry for each.",
        "not_squared_away": (
            "Your noise counts 1 - √ᾱ. Variances add up to 1, not sizes: √(1 - ᾱ)."
        ),
    },
    praise="Right, at any shape: √ᾱ x₀ + √(1-ᾱ) ε, one time a picture.",
)
def noisy_at(answer) -> None:
    """DDPM, eq. 4; with B = W, where a missing reshape is silent, and with all sizes different."""
    alpha_bar = diffusion.cosine_alpha_bar(100)
    for b, c, h, w in ((4, 3, 4, 4), (3, 2, 4, 5)):
        generator = torch.Generator().manual_seed(0)
        x0, noise = torch.randn(2, b, c, h, w, generator=generator, dtype=torch.float64)
        t = torch.tensor([5, 40, 70, 95])[:b]
        a, row = alpha_bar[t].view(-1, 1, 1, 1), alpha_bar[t]
        with untouched(x0, noise, t):
            value = call_tensor(answer, alpha_bar, x0, t, noise, shape=tuple(x0.shape))
        mistakes = {
            "variance": a.sqrt() * x0 + (1 - a) * noise,
            "picture_not_rooted": a * x0 + (1 - a).sqrt() * noise,
            "swapped": (1 - a).sqrt() * x0 + a.sqrt() * noise,
            "one_time": a[0].sqrt() * x0 + (1 - a[0]).sqrt() * noise,
            "not_squared_away": a.sqrt() * x0 + (1 - a.sqrt()) * noise,
        }
        if b == w:
            for share in (1 - row, (1 - row).sqrt()):
                if close(value, row.sqrt() * x0 + share * noise):
                    raise Misconception("columns")
        diagnose(value, a.sqrt() * x0 + (1 - a).sqrt() * noise, mistakes)


@exercise(
    notebook="03",
    kind="predict",
    points=1,
    minutes=5,
    signature="variance_half_way = number",
    misconceptions={
        "always_one": (
            "It stays 1 only if the data's variance is 1. These pictures have a smaller one."
        ),
        "sizes_mixed": (
            "You mixed standard deviations by ᾱ and 1 - ᾱ. Those are shares of variance: mix the "
            "variances."
        ),
        "factors_not_squared": (
            "You weighted the variances by √ᾱ and √(1-ᾱ). A factor counts squared in a variance."
        ),
        "picture_alone": "That is the picture's part alone; the noise adds its own.",
        "spread_told": "That is the standard deviation. Its square was asked for.",
    },
    praise="Right: 0.5 · 0.25 + 0.5 · 1. Pictures of variance 1 would keep it at every time.",
)
def variance_half_way(answer) -> None:
    """ᾱ σ² + 1 - ᾱ at ᾱ = 1/2 and σ = 1/2."""
    value, kept, sigma = number(answer), 0.5, 0.5
    wanted = kept * sigma**2 + 1 - kept
    mistakes = {
        "always_one": 1.0,
        "sizes_mixed": kept * sigma + 1 - kept,
        "factors_not_squared": kept**0.5 * sigma**2 + (1 - kept) ** 0.5,
        "picture_alone": kept * sigma**2,
        "spread_told": wanted**0.5,
    }
    for key, mistaken in mistakes.items():
        if abs(value - mistaken) < 5e-3:
            raise Misconception(key)
    if abs(value - wanted) > 5e-3:
        raise Wrong(f"Not {value:g}. Variances of independent parts add: which are the two parts?")


@exercise(
    notebook="03",
    kind="taught",
    points=3,
    minutes=10,
    signature="add_noise(x0: (B, C, H, W), t: int64 (B,), noise=…) -> (xt, noise)",
    misconceptions={
        "variance": (
            "Your noise is scaled by the variance 1 − ᾱ; the standard deviation is its square root."
        ),
        "columns": (
            "Each column of your pictures has a time of its own: give the look-up the shape "
            "(B, 1, 1, 1)."
        ),
        "uniform": "You draw with rand: noise from 0 to 1. The process's noise is normal: randn.",
        "not_given": "The noise that is given is not the one you use.",
        "one_value": "You return x_t alone; the loss also needs the noise: return both.",
    },
    praise="Right: eq. 4, with one time a picture.",
)
def add_noise(answer) -> None:
    """DDPM, eq. 4, by the answer's own schedule where it is a process's method, else the cosine."""
    process = getattr(answer, "__self__", None)
    alpha_bar = getattr(process, "alpha_bar", DiffusionProcess().alpha_bar).cpu().double()
    last = len(alpha_bar) - 1
    for b, c, h, w in ((4, 3, 4, 4), (3, 2, 4, 5)):
        x0, noise = torch.randn(2, b, c, h, w, generator=torch.Generator().manual_seed(0))
        t = torch.tensor([0, last // 3, last // 2, last * 9 // 10])[:b]
        a, row = alpha_bar[t].view(-1, 1, 1, 1), alpha_bar[t]
        value = call(answer, x0, t, noise=noise)
        if not isinstance(value, tuple | list):
            raise Misconception("one_value")
        mistakes = {"variance": a.sqrt() * x0 + (1 - a) * noise}
        if b == w:
            mistakes["columns"] = row.sqrt() * x0 + (1 - row).sqrt() * noise
        wanted = a.sqrt() * x0 + (1 - a).sqrt() * noise
        if not close(value[1], noise):
            raise Misconception("not_given")
        diagnose(value[0].double(), wanted, mistakes)
    big = torch.zeros(2, 3, 64, 64)
    _, drawn = call(answer, big, torch.tensor([last, last]))
    if drawn.min() >= 0:
        raise Misconception("uniform")
    if abs(drawn.std() - 1) > 0.05 or abs(drawn.mean()) > 0.05:
        raise Wrong("the noise that you draw has not mean 0 and spread 1.")


@exercise(
    notebook="03",
    kind="taught",
    points=2,
    minutes=10,
    signature="cosine_alpha_bar(num_steps: int) -> float64 (T,)",
    misconceptions={
        "not_squared": "The wave is squared: f = cos²(…).",
        "not_scaled": "Divide by f(0): without it the table does not start near 1.",
        "starts_at_one": "Your first entry is 1. This table begins *after* the first step: t + 1.",
        "no_offset": "The small offset s = 0.008 is missing in your f.",
    },
    praise="Right: a quarter of a cosine wave, squared.",
)
def cosine_alpha_bar(answer) -> None:
    """Improved DDPM, eq. 17."""
    for num_steps in (1000, 10):
        wanted = diffusion.cosine_alpha_bar(num_steps)
        u = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
        early = torch.arange(num_steps, dtype=torch.float64) / num_steps
        f_0 = wave(torch.zeros(1, dtype=torch.float64)) ** 2
        mistakes = {
            "not_squared": wave(u) / f_0.sqrt(),
            "not_scaled": wave(u) ** 2,
            "starts_at_one": wave(early) ** 2 / f_0,
            "no_offset": wave(u, s=0) ** 2,
        }
        value = call_tensor(answer, num_steps, shape=(num_steps,))
        diagnose(value, wanted, mistakes, tolerance=1e-6)


def wave(u: Tensor, s: float = 0.008) -> Tensor:
    """cos((u + s) / (1 + s) · π / 2)."""
    return torch.cos((u + s) / (1 + s) * torch.pi / 2)
