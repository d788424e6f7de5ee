"""What the hidden checks draw their cases with. No exercise's checks stand here."""

import torch
from torch import Tensor

HIDDEN: dict = {}


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def share(generator: torch.Generator) -> float:
    """A number in (0, 1)."""
    return 0.05 + 0.9 * float(torch.rand((), generator=generator))


def falling(generator: torch.Generator, num_steps: int) -> Tensor:
    """A table ᾱ that falls from almost 1 to almost 0: float64 (num_steps,)."""
    steps = 0.2 + torch.rand(num_steps, generator=generator, dtype=torch.float64)
    return torch.exp(-6 * (steps.cumsum(0) / steps.sum()) ** 2)
