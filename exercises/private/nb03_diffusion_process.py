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


def betas(T, first=1e-4, last=0.02):
    return torch.linspace(first, last, T, dtype=torch.float64) * 1000 / T


def product(betas):
    return (1 - betas).cumprod(0)


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
    shifted=[lambda T: torch.cat([torch.ones(1), product(betas(T))[:-1]])],
    not_scaled=[lambda T: product(betas(T) * T / 1000)],
    one_end=[
        lambda T: product(betas(T, first=1e-4 * T / 1000)),
        lambda T: product(betas(T, last=0.02 * T / 1000)),
    ],
    whole_scale=[lambda T: product(betas(T) * T / 1000 * (1000 // T))],
    thinned=[
        lambda T: product(betas(1000))[torch.linspace(0, 999, T).long()],
        lambda T: product(betas(1000))[torch.arange(T) * 1000 // T],
        lambda T: product(betas(1000))[torch.arange(1, T + 1) * 1000 // T - 1],
    ],
    exponential=[lambda T: torch.exp(-betas(T).cumsum(0))],
    clamped=[lambda T: product(betas(T).clamp(max=0.5))],
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
    only_the_signal=[lambda table, snr: int((table >= snr).sum())],
    upside_down=[lambda table, snr: int(((1 - table) / table <= snr).sum())],
    not_above=[lambda table, snr: int((table / (1 - table) > snr).sum())],
    one_early=[
        lambda table, snr: time_of_snr(table, snr) - 1,
        lambda table, snr: int((table / (1 - table) >= snr).nonzero()[-1]),
    ],
)


def noisy_at(alpha_bar, x0, t, noise):
    """x_t at one timestep per image, DDPM eq. 4: shaped like x0."""
    a = alpha_bar[t][:, None, None, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def per_image(alpha_bar, x0, t, noise):
    kept = alpha_bar[t].tolist()
    return torch.stack([a**0.5 * x + (1 - a) ** 0.5 * z for a, x, z in zip(kept, x0, noise)])


def spread_of(a):
    return (1 - a).sqrt()


def by_shares(signal=torch.sqrt, spread=spread_of, view=(-1, 1, 1, 1), early=0):
    """A wrong eq. 4: other functions of ᾱ, another shape of it, or an earlier time."""

    def noisy_at(alpha_bar, x0, t, noise):
        a = alpha_bar[t - early].view(view)
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
    columns=[by_shares(view=-1)],
    rows_or_channels=[by_shares(view=(-1, 1)), by_shares(view=(-1, 1, 1))],
    variance=[by_shares(spread=lambda a: 1 - a)],
    image_not_rooted=[by_shares(signal=lambda a: a)],
    not_rooted=[by_shares(lambda a: a, lambda a: 1 - a)],
    swapped=[by_shares(spread_of, torch.sqrt)],
    one_time=[lambda table, x0, t, noise: noisy_at(table, x0, t[:1].expand(len(t)), noise)],
    step_before=[by_shares(early=1)],
    not_squared_away=[by_shares(spread=lambda a: 1 - a.sqrt())],
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
        squares = [float(((x - alpha_bar**0.5 * z) ** 2).sum()) for z in images]
        weights = [math.exp((min(squares) - d) / (2 - 2 * alpha_bar)) for d in squares]
        rows.append(sum(w * z for w, z in zip(weights, images)) / sum(weights))
    return torch.stack(rows)


def by_weights(exponents, scale=math.sqrt, weigh=lambda e: e.softmax(1)):
    """The ideal denoiser with a mistake, by exponents(squared distances, 1 - ᾱ)."""

    def ideal_denoiser(images, xt, alpha_bar):
        distance = torch.cdist(xt, scale(alpha_bar) * images) ** 2
        return weigh(exponents(distance, 1 - alpha_bar)) @ images

    return ideal_denoiser


def normal(distance, variance):
    return -distance / (2 * variance)


def shares(weights, added=0.0):
    return weights / (weights.sum(1, keepdim=True) + added)


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
    not_scaled_down=[by_weights(normal, scale=lambda a: 1)],
    not_rooted=[by_weights(normal, scale=lambda a: a)],
    standard_deviation=[by_weights(lambda d, v: normal(d, v**0.5))],
    variance_squared=[by_weights(lambda d, v: normal(d, v**2))],
    factor_two=[by_weights(lambda d, v: -d / v)],
    not_squared=[by_weights(lambda d, v: normal(d**0.5, v))],
    mean_of_squares=[
        lambda z, x, a: by_weights(lambda d, v: normal(d / z.shape[1], v))(z, x, a),
    ],
    underflow=[by_weights(normal, weigh=lambda e: shares(e.exp()))],
    one_maximum=[by_weights(normal, weigh=lambda e: shares((e - e.max()).exp()))],
    hidden=[
        by_weights(normal, weigh=lambda e: shares(e.exp(), added=1e-8)),
        by_weights(normal, weigh=lambda e: shares(e.exp()).nan_to_num(0)),
    ],
    over_the_batch=[by_weights(normal, weigh=lambda e: e.softmax(0))],
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


def stepping(
    before=lambda table, t, s: table[s],
    kept=lambda table, t, before: table[t] / before,
    factors=lambda a, b: (a, b),
    root=torch.sqrt,
    variance=lambda v, kept: v,
):
    """step_back with a mistake in one part; s is t_prev, and a 1 ends the table."""

    def step_back(alpha_bar, x0, xt, t, t_prev):
        table = torch.cat([alpha_bar, torch.ones(1)])
        now, earlier = table[t], before(table, t, t_prev)
        share = kept(table, t, earlier)
        a, b = factors(root(earlier) * (1 - share), root(share) * (1 - earlier))
        posterior = (1 - earlier) / (1 - now) * (1 - share)
        return (a * x0 + b * xt) / (1 - now), variance(posterior, share)

    return step_back


answers(
    "step_back",
    right=[step_back, by_precision],
    beta_of_one_step=[stepping(kept=lambda table, t, before: table[t] / table[t - 1])],
    beta_as_variance=[stepping(variance=lambda v, kept: 1 - kept)],
    standard_deviation=[stepping(variance=lambda v, kept: v.sqrt())],
    last_entry=[stepping(before=lambda table, t, s: table[:-1][s])],
    zero_is_clean=[stepping(before=lambda table, t, s: table[s if s > 0 else -1])],
    always_one_step=[stepping(before=lambda table, t, s: table[t - 1 if s >= 0 else -1])],
    swapped=[stepping(factors=lambda a, b: (b, a))],
    not_rooted=[stepping(root=lambda kept: kept)],
)


def adding(noisy_at, draw=torch.randn_like):
    """add_noise by such a function of a table."""

    def add_noise(x0, t, noise=None):
        noise = draw(x0) if noise is None else noise
        return noisy_at(DiffusionProcess().alpha_bar, x0, t, noise), noise

    return add_noise


answers(
    "add_noise",
    right=[DiffusionProcess().add_noise, adding(noisy_at)],
    variance=[adding(by_shares(spread=lambda a: 1 - a))],
    columns=[adding(by_shares(view=-1))],
    uniform=[adding(noisy_at, draw=torch.rand_like)],
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
