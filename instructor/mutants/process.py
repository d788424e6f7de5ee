"""Answers to notebook 03's exercises."""

import numpy as np
import torch

from cdiff_helpers.diffusion import DiffusionProcess, cosine_alpha_bar
from instructor.mutants import right, right_value, wrong, wrong_value


@wrong("linear_alpha_bar", "one_step")
def _(num_steps):
    scale = 1000 / num_steps
    return 1 - torch.linspace(1e-4 * scale, 0.02 * scale, num_steps)


@wrong("linear_alpha_bar", "betas_multiplied")
def _(num_steps):
    scale = 1000 / num_steps
    return torch.linspace(1e-4 * scale, 0.02 * scale, num_steps).cumprod(0)


@wrong("linear_alpha_bar", "summed")
def _(num_steps):
    scale = 1000 / num_steps
    return 1 - torch.linspace(1e-4 * scale, 0.02 * scale, num_steps).cumsum(0)


@wrong("linear_alpha_bar", "shifted")
def _(num_steps):
    scale = 1000 / num_steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64)
    return torch.cat([torch.ones(1), (1 - betas).cumprod(0)[:-1]])


@wrong("linear_alpha_bar", "not_scaled")
def _(num_steps):
    return (1 - torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)).cumprod(0)


@right("linear_alpha_bar")
def _(num_steps):
    kept, table = 1.0, []
    for i in range(num_steps):
        beta = (1e-4 + (0.02 - 1e-4) * i / (num_steps - 1)) * 1000 / num_steps
        kept = kept * (1 - beta)
        table.append(kept)
    return torch.tensor(table)


@right("linear_alpha_bar")
def _(num_steps):
    betas = np.linspace(1e-4, 0.02, num_steps) * 1000 / num_steps
    return np.exp(np.log1p(-betas).cumsum())


@wrong("time_of_snr", "amplitudes")
def _(alpha_bar, snr):
    ratio = alpha_bar.sqrt() / (1 - alpha_bar).sqrt()
    return int((ratio < snr).nonzero()[0])


@wrong("time_of_snr", "only_the_signal")
def _(alpha_bar, snr):
    return int((alpha_bar >= snr).sum())


@wrong("time_of_snr", "upside_down")
def _(alpha_bar, snr):
    ratio = (1 - alpha_bar) / alpha_bar
    return int((ratio > snr).nonzero()[0])


@wrong("time_of_snr", "one_early")
def _(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) >= snr).nonzero()[-1])


@right("time_of_snr")
def _(alpha_bar, snr):
    for t, kept in enumerate(alpha_bar.tolist()):
        if kept < snr * (1 - kept):
            return t
    return len(alpha_bar)


@right("time_of_snr")
def _(alpha_bar, snr):
    return torch.logit(alpha_bar).lt(float(np.log(snr))).int().argmax()


@wrong("noisy_at", "columns")
def _(alpha_bar, x0, t, noise):
    return alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]) * noise


@wrong("noisy_at", "columns")
def _(alpha_bar, x0, t, noise):
    return alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * noise


@wrong("noisy_at", "variance")
def _(alpha_bar, x0, t, noise):
    a = alpha_bar[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a) * noise


@wrong("noisy_at", "picture_not_rooted")
def _(alpha_bar, x0, t, noise):
    a = alpha_bar[t].view(-1, 1, 1, 1)
    return a * x0 + (1 - a).sqrt() * noise


@wrong("noisy_at", "swapped")
def _(alpha_bar, x0, t, noise):
    a = alpha_bar[t].view(-1, 1, 1, 1)
    return (1 - a).sqrt() * x0 + a.sqrt() * noise


@wrong("noisy_at", "one_time")
def _(alpha_bar, x0, t, noise):
    a = alpha_bar[t[0]]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


@wrong("noisy_at", "not_squared_away")
def _(alpha_bar, x0, t, noise):
    share = alpha_bar[t][:, None, None, None].sqrt()
    return share * x0 + (1 - share) * noise


@right("noisy_at")
def _(alpha_bar, x0, t, noise):
    pictures = []
    for picture, time, eps in zip(x0, t.tolist(), noise):
        kept = float(alpha_bar[time])
        pictures.append(kept**0.5 * picture + (1 - kept) ** 0.5 * eps)
    return torch.stack(pictures)


@right("noisy_at")
def _(alpha_bar, x0, t, noise):
    share = alpha_bar.gather(0, t)
    return torch.einsum("b,bchw->bchw", share**0.5, x0) + torch.einsum(
        "b,bchw->bchw", (1 - share) ** 0.5, noise
    )


wrong_value("variance_half_way", "always_one", 1)
wrong_value("variance_half_way", "sizes_mixed", 0.75)
wrong_value("variance_half_way", "factors_not_squared", 0.884)
wrong_value("variance_half_way", "picture_alone", 0.125)
wrong_value("variance_half_way", "spread_told", 0.79)
right_value("variance_half_way", 5 / 8)
right_value("variance_half_way", torch.tensor(0.625))

DEFAULT = DiffusionProcess()


@wrong("add_noise", "variance")
def _(x0, t, noise=None):
    noise = torch.randn_like(x0) if noise is None else noise
    a = DEFAULT.alpha_bar[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a) * noise, noise


@wrong("add_noise", "columns")
def _(x0, t, noise=None):
    noise = torch.randn_like(x0) if noise is None else noise
    a = DEFAULT.alpha_bar[t]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise, noise


@wrong("add_noise", "uniform")
def _(x0, t, noise=None):
    noise = torch.rand_like(x0) if noise is None else noise
    return DEFAULT.add_noise(x0, t, noise)


@wrong("add_noise", "not_given")
def _(x0, t, noise=None):
    return DEFAULT.add_noise(x0, t)


@wrong("add_noise", "one_value")
def _(x0, t, noise=None):
    return DEFAULT.add_noise(x0, t, noise)[0]


right_value("add_noise", DEFAULT.add_noise)
right_value("add_noise", DiffusionProcess(50).add_noise)


@wrong("cosine_alpha_bar", "not_squared")
def _(num_steps):
    u = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((u + 0.008) / 1.008 * np.pi / 2)
    return f / np.cos(0.008 / 1.008 * np.pi / 2)


@wrong("cosine_alpha_bar", "not_scaled")
def _(num_steps):
    u = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    return torch.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2


@wrong("cosine_alpha_bar", "starts_at_one")
def _(num_steps):
    u = torch.arange(num_steps, dtype=torch.float64) / num_steps
    return torch.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2


@wrong("cosine_alpha_bar", "no_offset")
def _(num_steps):
    u = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    return torch.cos(u * np.pi / 2) ** 2


@right("cosine_alpha_bar")
def _(num_steps):
    f = [np.cos((i / num_steps + 0.008) / 1.008 * np.pi / 2) ** 2 for i in range(num_steps + 1)]
    return np.array(f[1:]) / f[0]


right_value("cosine_alpha_bar", cosine_alpha_bar)
