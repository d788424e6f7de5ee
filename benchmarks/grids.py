"""Ways to choose a sampler's times, to be measured against each other.

Each takes the process and a count and gives that many falling times, from T-1 down to 0.
"""

from functools import partial

import torch
from torch import Tensor

from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import half_log_snr, log_snr_times, nearest_times, respaced_times


def even_times(process: DiffusionProcess, count: int) -> list[int]:
    """Evenly spaced in t."""
    return respaced_times(process.num_steps, count)


def all_log_snr_times(process: DiffusionProcess, count: int) -> list[int]:
    """Evenly spaced in λ over the whole table (DPM-Solver, section 3.4)."""
    lambdas = half_log_snr(process.alpha_bar)
    return nearest_times(lambdas, torch.linspace(lambdas[-1], lambdas[0], count).double())


def rho_times(
    process: DiffusionProcess, count: int, sigma_max: float | None = None, rho: float = 7
) -> list[int]:
    """Evenly spaced in σ^(1/ρ), σ = e^{-λ} (EDM, eq. 5); from σ_max on, after T-1, if given."""
    roots: Tensor = (-half_log_snr(process.alpha_bar) / rho).exp()  # (T,), rising
    if sigma_max is None:
        return nearest_times(roots, torch.linspace(roots[-1], roots[0], count).double())
    wanted = torch.linspace(sigma_max ** (1 / rho), roots[0], count - 1).double()
    return [process.num_steps - 1, *nearest_times(roots[:-1], wanted)]


GRIDS = {
    "even in t": even_times,
    "even in log-SNR": all_log_snr_times,
    "even in log-SNR, σ below 80": log_snr_times,
    "rho 7": rho_times,
    "rho 7, σ below 80": partial(rho_times, sigma_max=80.0),
}
