"""Answers to notebook 03's exercises."""

import numpy as np
import torch

from mutants import right, wrong


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
