"""Answers to notebook 03's exercises: the diffusion process."""

import math

import numpy as np
import torch

from cdiff_helpers import diffusion
from cdiff_helpers.diffusion import DiffusionProcess
from exercises.private import answers


def linear_alpha_bar(num_steps):
    """The linear schedule's ᾱ: (num_steps,), falling."""
    scale = 1000 / num_steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64)
    return (1 - betas).cumprod(0)


def betas(T):
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T


def one_by_one(num_steps):
    kept, table = 1.0, []
    for i in range(num_steps):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * i / (num_steps - 1)) * 1000 / num_steps
        table.append(kept)
    return torch.tensor(table)


answers(
    "linear_alpha_bar",
    right=[
        linear_alpha_bar,
        one_by_one,
        lambda T: np.exp(np.log1p(-np.linspace(1e-4, 0.02, T) * 1000 / T).cumsum()),
    ],
    one_step=[lambda T: 1 - betas(T)],
    betas_multiplied=[lambda T: betas(T).cumprod(0)],
    summed=[lambda T: 1 - betas(T).cumsum(0)],
    shifted=[lambda T: torch.cat([torch.ones(1), (1 - betas(T)).cumprod(0)[:-1]])],
    not_scaled=[lambda T: (1 - betas(T) * T / 1000).cumprod(0)],
)


def time_of_snr(alpha_bar, snr):
    """The first t with SNR(t) < snr: a whole number."""
    ratio = alpha_bar / (1 - alpha_bar)
    return int((ratio >= snr).sum())


def searched(alpha_bar, snr):
    for t, kept in enumerate(alpha_bar.tolist()):
        if kept < snr * (1 - kept):
            return t


answers(
    "time_of_snr",
    right=[
        time_of_snr,
        searched,
        lambda table, snr: torch.logit(table).lt(math.log(snr)).int().argmax(),
    ],
    amplitudes=[lambda table, snr: int((table.sqrt() / (1 - table).sqrt() >= snr).sum())],
    only_the_signal=[lambda table, snr: int((table >= min(snr, 2)).sum())],
    upside_down=[lambda table, snr: int(((1 - table) / table <= snr).sum())],
    one_early=[lambda table, snr: time_of_snr(table, snr) - 1],
)


def noisy_at(alpha_bar, x0, t, noise):
    """x_t at one timestep per image, DDPM eq. 4: shaped like x0."""
    a = alpha_bar[t][:, None, None, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def per_image(alpha_bar, x0, t, noise):
    kept = alpha_bar[t].tolist()
    return torch.stack([a**0.5 * x + (1 - a) ** 0.5 * z for a, x, z in zip(kept, x0, noise)])


def by_shares(signal, spread):
    """A wrong eq. 4, from two functions of ᾱ (B, 1, 1, 1)."""

    def noisy_at(alpha_bar, x0, t, noise):
        a = alpha_bar[t].view(-1, 1, 1, 1)
        return signal(a) * x0 + spread(a) * noise

    return noisy_at


answers(
    "noisy_at",
    right=[
        noisy_at,
        per_image,
        lambda table, x0, t, noise: (
            torch.einsum("b,bchw->bchw", table.gather(0, t) ** 0.5, x0)
            + torch.einsum("b,bchw->bchw", (1 - table.gather(0, t)) ** 0.5, noise)
        ),
    ],
    columns=[lambda table, x0, t, noise: table[t].sqrt() * x0 + (1 - table[t]).sqrt() * noise],
    variance=[by_shares(torch.sqrt, lambda a: 1 - a)],
    image_not_rooted=[by_shares(lambda a: a, lambda a: (1 - a).sqrt())],
    swapped=[by_shares(lambda a: (1 - a).sqrt(), torch.sqrt)],
    one_time=[lambda table, x0, t, noise: noisy_at(table, x0, t[:1].expand(len(t)), noise)],
    not_squared_away=[by_shares(torch.sqrt, lambda a: 1 - a.sqrt())],
)

answers(
    "variance_half_way",
    right=[0.5 * 0.5**2 + 0.5, 0.63, 0.62],
    always_one=[1],
    scales_mixed=[0.75],
    factors_not_squared=[0.5**0.5 * 0.5**2 + 0.5**0.5, 0.884, 0.88],
    image_alone=[0.125],
    standard_deviation=[0.625**0.5, 0.79],
)


def ideal_denoiser(images, xt, alpha_bar):
    """The mean of x0 given x_t (B, D), where x0 is one of the images (N, D): (B, D)."""
    distance = torch.cdist(xt, alpha_bar**0.5 * images) ** 2  # (B, N)
    return torch.softmax(-distance / (2 * (1 - alpha_bar)), dim=1) @ images


def image_by_image(images, xt, alpha_bar):
    rows = []
    for x in xt:
        score = [
            -float(((x - alpha_bar**0.5 * z) ** 2).sum()) / (1 - alpha_bar) / 2 for z in images
        ]
        weights = [math.exp(s - max(score)) for s in score]
        rows.append(sum(w * z for w, z in zip(weights, images)) / sum(weights))
    return torch.stack(rows)


def weighted(images, xt, kept, *, mean=None, variance=None, dim=1, root=2):
    """The ideal denoiser, or one with a mistake in its weights."""
    centers = (kept**0.5 if mean is None else mean) * images
    spread = (1 - kept) if variance is None else variance
    distance = torch.cdist(xt, centers) ** root
    return torch.softmax(-distance / (2 * spread), dim=dim)


answers(
    "ideal_denoiser",
    right=[
        ideal_denoiser,
        image_by_image,
        lambda z, x, a: (
            torch.softmax((a**0.5 * x @ z.T - a / 2 * z.square().sum(1)) / (1 - a), 1).double() @ z
        ),
    ],
    nearest=[lambda z, x, a: z[torch.cdist(x, a**0.5 * z).argmin(1)]],
    not_scaled_down=[lambda z, x, a: weighted(z, x, a, mean=1.0) @ z],
    standard_deviation=[lambda z, x, a: weighted(z, x, a, variance=(1 - a) ** 0.5) @ z],
    factor_two=[lambda z, x, a: weighted(z, x, a, variance=(1 - a) / 2) @ z],
    not_squared=[lambda z, x, a: weighted(z, x, a, root=1) @ z],
    underflow=[
        lambda z, x, a: (
            (w := torch.exp(-(torch.cdist(x, a**0.5 * z) ** 2) / (2 * (1 - a))))
            @ z
            / w.sum(1)[:, None]
        )
    ],
    over_the_batch=[lambda z, x, a: weighted(z, x, a, dim=0) @ z],
)


def step_back(alpha_bar, x0, xt, t, t_prev):
    """Mean and variance of q(x_{t_prev} | x_t, x_0), DDPM eq. 6-7 for a step of any length."""
    now = alpha_bar[t]
    before = alpha_bar[t_prev] if t_prev >= 0 else torch.ones_like(now)
    kept = now / before  # of the variance, from t_prev to t
    mean = before.sqrt() * (1 - kept) * x0 + kept.sqrt() * (1 - before) * xt
    return mean / (1 - now), (1 - before) / (1 - now) * (1 - kept)


def by_precision(alpha_bar, x0, xt, t, t_prev):
    """Two normal densities multiplied: their precisions add."""
    table = [*alpha_bar.tolist(), 1.0]  # the last one is found at -1, too
    kept, before = table[t] / table[t_prev], table[t_prev]
    if before == 1:
        return x0, 0.0
    prior, likelihood = 1 / (1 - before), kept / (1 - kept)
    variance = 1 / (prior + likelihood)
    return variance * (prior * before**0.5 * x0 + likelihood * xt / kept**0.5), variance


def stepping(kept_of=None, variance_of=None, before_of=None, mean_of=None):
    """step_back with one mistake."""

    def step_back(alpha_bar, x0, xt, t, t_prev):
        now, one = alpha_bar[t], torch.ones((), dtype=alpha_bar.dtype)
        before = alpha_bar[t_prev] if t_prev >= 0 else one
        before = before_of(alpha_bar, t, t_prev, before) if before_of else before
        kept = kept_of(alpha_bar, t) if kept_of else now / before
        a, b = before.sqrt() * (1 - kept) / (1 - now), kept.sqrt() * (1 - before) / (1 - now)
        a, b = mean_of(a, b, before, kept, now) if mean_of else (a, b)
        variance = (1 - before) / (1 - now) * (1 - kept)
        return a * x0 + b * xt, variance_of(variance, kept) if variance_of else variance

    return step_back


answers(
    "step_back",
    right=[step_back, by_precision],
    beta_of_one_step=[stepping(kept_of=lambda table, t: table[t] / table[t - 1])],
    beta_as_variance=[stepping(variance_of=lambda variance, kept: 1 - kept)],
    standard_deviation=[stepping(variance_of=lambda variance, kept: variance.sqrt())],
    last_entry=[stepping(before_of=lambda table, t, t_prev, before: table[t_prev])],
    always_one_step=[
        stepping(before_of=lambda table, t, t_prev, before: table[t - 1] if t_prev >= 0 else before)
    ],
    swapped=[stepping(mean_of=lambda a, b, before, kept, now: (b, a))],
    not_rooted=[
        stepping(
            mean_of=lambda a, b, before, kept, now: (
                before * (1 - kept) / (1 - now),
                kept * (1 - before) / (1 - now),
            )
        )
    ],
)


def adding(signal, spread, draw=torch.randn_like, columns=False):
    """A wrong add_noise."""

    def add_noise(x0, t, noise=None):
        noise = draw(x0) if noise is None else noise
        a = DiffusionProcess().alpha_bar[t]
        a = a if columns else a.view(-1, 1, 1, 1)
        return signal(a) * x0 + spread(a) * noise, noise

    return add_noise


def spread_of(a):
    return (1 - a).sqrt()


answers(
    "add_noise",
    right=[DiffusionProcess().add_noise],
    variance=[adding(torch.sqrt, lambda a: 1 - a)],
    columns=[adding(torch.sqrt, spread_of, columns=True)],
    uniform=[adding(torch.sqrt, spread_of, draw=torch.rand_like)],
    not_given=[lambda x0, t, noise=None: DiffusionProcess().add_noise(x0, t)],
    one_value=[lambda x0, t, noise=None: DiffusionProcess().add_noise(x0, t, noise)[0]],
)


def wave(T, first=1, s=0.008):
    """cos((u + s) / (1 + s) · π / 2) for u = first / T, …, and the same at u = 0."""
    u = torch.arange(first, T + first, dtype=torch.float64) / T
    return [torch.cos((v + s) / (1 + s) * torch.pi / 2) for v in (u, torch.zeros(1).double())]


answers(
    "cosine_alpha_bar",
    right=[diffusion.cosine_alpha_bar],
    not_squared=[lambda T: wave(T)[0] / wave(T)[1]],
    not_scaled=[lambda T: wave(T)[0] ** 2],
    starts_at_one=[lambda T: (wave(T, 0)[0] / wave(T)[1]) ** 2],
    no_offset=[lambda T: wave(T, s=0)[0] ** 2],
)
