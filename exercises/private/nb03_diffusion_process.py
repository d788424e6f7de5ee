"""Answers to notebook 03's exercises: the diffusion process."""

import math

import numpy as np
import torch

from cdiff_helpers import diffusion
from cdiff_helpers.diffusion import DiffusionProcess
from exercises.private import right


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


known = right(
    "linear_alpha_bar",
    "ᾱ falls from almost 1 to almost 0, for any T above 20.",
    linear_alpha_bar,
    one_by_one,
    lambda T: np.exp(np.log1p(-np.linspace(1e-4, 0.02, T) * 1000 / T).cumsum()),
)
known.mistake(
    "one_step",
    "You return α, the share that one step keeps. ᾱ_t is what all steps up to t keep: the product "
    "of α_0 … α_t, a cumprod.",
    lambda T: 1 - betas(T),
)
known.mistake(
    "betas_multiplied",
    "You multiply the β. What multiplies is what is kept: α = 1 - β.",
    lambda T: betas(T).cumprod(0),
)
known.mistake(
    "summed",
    "You add the β up. Shares that are kept multiply: (1 - β_0)(1 - β_1) and so on.",
    lambda T: 1 - betas(T).cumsum(0),
)
known.mistake(
    "shifted",
    "Your table starts at 1, one step early: ᾱ_0 is what is left after the first step, α_0.",
    lambda T: torch.cat([torch.ones(1), (1 - betas(T)).cumprod(0)[:-1]]),
)
known.mistake(
    "not_scaled",
    "Right for T = 1000, but a shorter process has to lose as much in fewer steps: scale both ends "
    "of β by 1000 / T.",
    lambda T: (1 - betas(T) * T / 1000).cumprod(0),
)


def time_of_snr(alpha_bar, snr):
    """The first t with SNR(t) < snr: a whole number."""
    ratio = alpha_bar / (1 - alpha_bar)
    return int((ratio >= snr).sum())


def searched(alpha_bar, snr):
    for t, kept in enumerate(alpha_bar.tolist()):
        if kept < snr * (1 - kept):
            return t


known = right(
    "time_of_snr",
    "from there on the noise outweighs the image by that ratio.",
    time_of_snr,
    searched,
    lambda table, snr: torch.logit(table).lt(math.log(snr)).int().argmax(),
)
known.mistake(
    "amplitudes",
    "You compare √ᾱ / √(1-ᾱ). That is the ratio of sizes; the signal-to-noise ratio is one of "
    "variances, its square.",
    lambda table, snr: int((table.sqrt() / (1 - table).sqrt() >= snr).sum()),
)
known.mistake(
    "only_the_signal",
    "You compare ᾱ itself. The ratio also has the noise's variance below it: 1 - ᾱ.",
    lambda table, snr: int((table >= min(snr, 2)).sum()),
)
known.mistake(
    "upside_down",
    "Your ratio is noise over signal; turn it round.",
    lambda table, snr: int(((1 - table) / table <= snr).sum()),
)
known.mistake(
    "one_early",
    "One too early: at your t the ratio is still at least as high as asked. The first time *below* "
    "it was asked for.",
    lambda table, snr: time_of_snr(table, snr) - 1,
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


known = right(
    "noisy_at",
    "a signal scale and a noise scale for each image, whatever its size.",
    noisy_at,
    per_image,
    lambda table, x0, t, noise: (
        torch.einsum("b,bchw->bchw", table.gather(0, t) ** 0.5, x0)
        + torch.einsum("b,bchw->bchw", (1 - table.gather(0, t)) ** 0.5, noise)
    ),
)
known.mistake(
    "unchanged",
    "This is the printed code: where B equals the width it gives each *column* a timestep of its "
    "own, elsewhere it fails. And noise of variance 1 - ᾱ has another scale.",
)
known.mistake(
    "columns",
    "Each *column* of your images has a timestep of its own: (B,) lines up with the width. It is "
    "silent because here B equals W. One factor per image has the shape (B, 1, 1, 1).",
    lambda table, x0, t, noise: table[t].sqrt() * x0 + (1 - table[t]).sqrt() * noise,
)
known.mistake(
    "variance",
    "Your noise is scaled by the variance 1 − ᾱ; the standard deviation is its square root.",
    by_shares(torch.sqrt, lambda a: 1 - a),
)
known.mistake(
    "image_not_rooted",
    "The image's scale is √ᾱ; you take ᾱ itself.",
    by_shares(lambda a: a, lambda a: (1 - a).sqrt()),
)
known.mistake(
    "swapped",
    "You give the image the noise's scale, and the noise the image's.",
    by_shares(lambda a: (1 - a).sqrt(), torch.sqrt),
)
known.mistake(
    "one_time",
    "All images get the first one's timestep; t has an entry for each.",
    lambda table, x0, t, noise: noisy_at(table, x0, t[:1].expand(len(t)), noise),
)
known.mistake(
    "not_squared_away",
    "Your noise's scale is 1 - √ᾱ. Variances add up to 1, not scales: √(1 - ᾱ).",
    by_shares(torch.sqrt, lambda a: 1 - a.sqrt()),
)

known = right(
    "variance_half_way",
    "the image's part and the noise's add up. Images of variance 1 would keep it at every t.",
    0.5 * 0.5**2 + 0.5,
    0.63,
    0.62,
    otherwise="Variances of independent parts add: which are the two parts?",
)
known.mistake(
    "always_one",
    "That holds for images of variance 1. These have a standard deviation of 0.5, so less.",
    1,
)
known.mistake(
    "scales_mixed",
    "You mixed standard deviations by ᾱ and 1 - ᾱ. Those are shares of variance: mix the "
    "variances.",
    0.75,
)
known.mistake(
    "factors_not_squared",
    "You weighted the variances by √ᾱ and √(1-ᾱ). A factor counts squared in a variance.",
    0.5**0.5 * 0.5**2 + 0.5**0.5,
    0.884,
    0.88,
)
known.mistake("image_alone", "That is the image's part alone; the noise adds its own.", 0.125)
known.mistake(
    "standard_deviation",
    "That is the standard deviation. Its square was asked for.",
    0.625**0.5,
    0.79,
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


known = right(
    "ideal_denoiser",
    "a mean over all images that fit: blurred where much fits, sharp where one does.",
    ideal_denoiser,
    image_by_image,
    lambda z, x, a: (
        torch.softmax((a**0.5 * x @ z.T - a / 2 * z.square().sum(1)) / (1 - a), 1).double() @ z
    ),
)
known.mistake(
    "nearest",
    "You return the image that fits best. The mean weighs all images by how well they fit.",
    lambda z, x, a: z[torch.cdist(x, a**0.5 * z).argmin(1)],
)
known.mistake(
    "not_scaled_down",
    "You compare x_t with the images themselves. In x_t an image is scaled by √ᾱ.",
    lambda z, x, a: weighted(z, x, a, mean=1.0) @ z,
)
known.mistake(
    "standard_deviation",
    "You divide by 2√(1-ᾱ). The exponent of a normal density has the variance below it.",
    lambda z, x, a: weighted(z, x, a, variance=(1 - a) ** 0.5) @ z,
)
known.mistake(
    "factor_two",
    "The 2 is missing below the squared distance: -d² / (2 (1-ᾱ)).",
    lambda z, x, a: weighted(z, x, a, variance=(1 - a) / 2) @ z,
)
known.mistake(
    "not_squared",
    "The exponent has the *squared* distance.",
    lambda z, x, a: weighted(z, x, a, root=1) @ z,
)
known.mistake(
    "underflow",
    "Where there is almost no noise all your weights underflow to 0, and 0 / 0 is nan. softmax "
    "subtracts the largest exponent first.",
    lambda z, x, a: (
        (w := torch.exp(-(torch.cdist(x, a**0.5 * z) ** 2) / (2 * (1 - a)))) @ z / w.sum(1)[:, None]
    ),
)
known.mistake(
    "over_the_batch",
    "Your weights add up to 1 over the batch. For each x_t they add up to 1 over the images.",
    lambda z, x, a: weighted(z, x, a, dim=0) @ z,
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


known = right(
    "step_back",
    "exact for a step of any length, and the step to the clean image adds no noise.",
    step_back,
    by_precision,
    lambda table, x0, xt, t, s: by_precision(table.clone(), x0, xt, t, s),
)
known.mistake(
    "beta_of_one_step",
    "You take β_t, the share of a single step, for a step of any length. From t_prev to t the "
    "share that is kept is ᾱ_t / ᾱ_{t_prev}.",
    stepping(kept_of=lambda table, t: table[t] / table[t - 1]),
)
known.mistake(
    "beta_as_variance",
    "Your variance is 1 - ᾱ_t / ᾱ_{t_prev}, that of the step forward. The posterior's is smaller, "
    "by (1-ᾱ_{t_prev}) / (1-ᾱ_t).",
    stepping(variance_of=lambda variance, kept: 1 - kept),
)
known.mistake(
    "standard_deviation",
    "You return the standard deviation; the variance was asked for.",
    stepping(variance_of=lambda variance, kept: variance.sqrt()),
)
known.mistake(
    "last_entry",
    "t_prev = -1 means the clean image, with ᾱ = 1. alpha_bar[-1] is the table's last entry: pure "
    "noise.",
    stepping(before_of=lambda table, t, t_prev, before: table[t_prev]),
)
known.mistake(
    "always_one_step",
    "Your step goes to t - 1, whatever t_prev is.",
    stepping(before_of=lambda table, t, t_prev, before: table[t - 1] if t_prev >= 0 else before),
)
known.mistake(
    "swapped",
    "The factors of x_0 and x_t have changed places: near t_prev = -1 the mean is x_0.",
    stepping(mean_of=lambda a, b, before, kept, now: (b, a)),
)
known.mistake(
    "not_rooted",
    "The factors have √ᾱ_{t_prev} and the root of ᾱ_t / ᾱ_{t_prev}; yours lack the roots.",
    stepping(
        mean_of=lambda a, b, before, kept, now: (
            before * (1 - kept) / (1 - now),
            kept * (1 - before) / (1 - now),
        )
    ),
)

known = right("add_noise", "eq. 4, with one timestep per image.", DiffusionProcess().add_noise)


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


known.mistake(
    "variance",
    "Your noise is scaled by the variance 1 − ᾱ; the standard deviation is its square root.",
    adding(torch.sqrt, lambda a: 1 - a),
)
known.mistake(
    "columns",
    "Each column of your images has a timestep of its own: give the look-up the shape "
    "(B, 1, 1, 1).",
    adding(torch.sqrt, spread_of, columns=True),
)
known.mistake(
    "uniform",
    "You draw with rand: noise from 0 to 1. The process's noise is normal: randn.",
    adding(torch.sqrt, spread_of, draw=torch.rand_like),
)
known.mistake(
    "not_given",
    "The noise that is given is not the one you use.",
    lambda x0, t, noise=None: DiffusionProcess().add_noise(x0, t),
)
known.mistake(
    "one_value",
    "You return x_t alone; the loss also needs the noise: return both.",
    lambda x0, t, noise=None: DiffusionProcess().add_noise(x0, t, noise)[0],
)

known = right(
    "cosine_alpha_bar", "a quarter of a cosine wave, squared.", diffusion.cosine_alpha_bar
)


def wave(T, first=1, s=0.008):
    """cos((u + s) / (1 + s) · π / 2) for u = first / T, …, and the same at u = 0."""
    u = torch.arange(first, T + first, dtype=torch.float64) / T
    return [torch.cos((v + s) / (1 + s) * torch.pi / 2) for v in (u, torch.zeros(1).double())]


known.mistake(
    "not_squared",
    "The wave is squared: f = cos²(…).",
    lambda T: wave(T)[0] / wave(T)[1],
)
known.mistake(
    "not_scaled",
    "Divide by f(0): without it the table does not start near 1.",
    lambda T: wave(T)[0] ** 2,
)
known.mistake(
    "starts_at_one",
    "Your first entry is 1. This table begins *after* the first step: t + 1.",
    lambda T: (wave(T, 0)[0] / wave(T)[1]) ** 2,
)
known.mistake(
    "no_offset",
    "The small offset s = 0.008 is missing in your f.",
    lambda T: wave(T, s=0)[0] ** 2,
)
