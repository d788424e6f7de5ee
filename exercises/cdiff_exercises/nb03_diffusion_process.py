"""Trials of notebook 03: the diffusion process."""

import torch

from cdiff_exercises.answer import sketch
from cdiff_exercises.room import exercise
from cdiff_helpers import diffusion


@exercise("build", points=3, minutes=10)
def linear_alpha_bar(answer, draw):
    """linear_alpha_bar(num_steps: int) -> Tensor (num_steps,)"""
    for T in (1000, 100, 21, 40, draw.whole(30, 3000)):
        yield (
            f"ᾱ for T = {T}, at 16 places,",
            sketch(answer(T, shape=(T,))),
            1e-5,
        )


@exercise("build", points=3, minutes=12)
def time_of_snr(answer, draw):
    """time_of_snr(alpha_bar: float (T,), snr: float) -> whole number in 0 … T-1"""
    cases = [(diffusion.cosine_alpha_bar(1000), 1.0), (diffusion.cosine_alpha_bar(50), 4.0)]
    cases += [(draw.alpha_bar(draw.whole(20, 400)), draw.number(0.1, 5)) for _ in range(3)]
    for table, snr in cases:
        name = f"t for T = {len(table)} and a ratio of {snr:.2f}"
        yield name, answer(table, snr, shape=(), dtype="whole"), 0
    for short in ([0.9, 0.5, 0.2, 0.1], [0.9, 0.8, 0.2], [0.3, 0.2, 0.1]):  # at 0.5 it is just 1
        value = answer(torch.tensor(short, dtype=torch.float64), 1.0, shape=(), dtype="whole")
        yield f"t for ᾱ = {short} and a ratio of 1", value, 0


@exercise("bug", points=3, minutes=12)
def noisy_at(answer, draw):
    """noisy_at(alpha_bar: (T,), x0: (B, C, H, W), t: int64 (B,), noise) -> (B, C, H, W)"""
    for b, c, h, w in ((3, 3, 3, 3), (draw.whole(2, 6), 2, 4, 5), (1, 1, 3, 2)):
        table = draw.alpha_bar(draw.whole(20, 400))
        x0, noise, t = draw.normal(b, c, h, w), draw.normal(b, c, h, w), draw.labels(b, len(table))
        t[0] = 0
        yield f"x_t of {b} images, {w} pixels wide", answer(table, x0, t, noise, shape=x0.shape)


@exercise("predict", points=1, minutes=5)
def variance_half_way(answer, draw):
    """variance_half_way = number"""
    yield "the variance", round(*answer.number(), 3)


@exercise("build", points=4, minutes=15)
def ideal_denoiser(answer, draw):
    """ideal_denoiser(images: (N, D), xt: (B, D), alpha_bar: float) -> (B, D)"""
    half = draw.number(0.4, 0.6)
    for name, kept, away, n, b, d in (
        ("half-way", half, 0, 5, 4, 3),
        ("half-way, of one x_t", half, 0, 7, 1, 2),
        ("of a single image", half, 0, 1, 2, 6),
        ("where almost nothing is left", 1e-9, 0, 3, 6, 5),
        ("of one x_t far from all images, with almost no noise", 1 - 1e-5, 3, 6, 1, 4),
        ("far from all images, with almost no noise", 1 - 1e-5, 3, 5, 4, 3),
    ):
        images = draw.normal(n, d)
        xt = kept**0.5 * images[draw.labels(b, n)] + (1 - kept) ** 0.5 * draw.normal(b, d) + away
        yield f"the estimate {name}", answer(images, xt, kept, shape=xt.shape), 1e-3


@exercise("build", points=4, minutes=15)
def step_back(answer, draw):
    """step_back(alpha_bar: (T,), x0, xt: (B, C, H, W), t: int, t_prev: int) -> (mean, variance)"""
    table, later = draw.alpha_bar(60), draw.whole(20, 40)
    x0, xt = draw.normal(2, 1, 2, 3), draw.normal(2, 1, 2, 3)
    steps = ((later, later - 1), (later, draw.whole(2, 15)), (later, -1), (59, 3), (1, 0), (0, -1))
    for t, t_prev in steps:
        mean, variance = answer.several(2, table, x0, xt, t, t_prev)
        step = f"from t = {t} to {t_prev}"
        yield f"the mean {step}", answer.tensor(mean, shape=x0.shape)
        yield f"the variance {step}", answer.tensor(variance).mean()


@exercise("taught", points=3, minutes=10)
def add_noise(answer, draw):
    """add_noise(x0: (B, C, H, W), t: int64 (B,), noise=…) -> (xt, noise)"""
    for b, c, h, w in ((4, 2, 4, 4), (3, 2, 4, 5)):
        x0, noise = draw.normal(b, c, h, w).float(), draw.normal(b, c, h, w).float()
        xt, used = answer.several(2, x0, draw.labels(b, 900), noise=noise)
        yield f"x_t of {b} images, {w} pixels wide", answer.tensor(xt, shape=x0.shape)
        yield f"the noise returned for {b} images", answer.tensor(used, shape=x0.shape)
    _, drawn = answer.several(2, torch.zeros(2, 3, 64, 64), torch.tensor([500, 999]))
    drawn = answer.tensor(drawn, shape=(2, 3, 64, 64))
    yield "the mean of noise that you draw", drawn.mean(), 0.05
    yield "its standard deviation", drawn.std(), 0.05


@exercise("taught", points=2, minutes=10)
def cosine_alpha_bar(answer, draw):
    """cosine_alpha_bar(num_steps: int) -> float64 (T,)"""
    for T in (1000, 10):
        yield (
            f"ᾱ for T = {T}, at 16 places,",
            sketch(answer(T, shape=(T,))),
            1e-6,
        )
