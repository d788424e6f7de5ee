"""Checks of notebook 03's exercises: the diffusion process."""

import torch

from cdiff_helpers.checks.verdict import Wrong, call_tensor, diagnose, exercise


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
        "summed": "You add the β up. Shares that are kept multiply: (1 - β_0)(1 - β_1) …",
        "shifted": (
            "Your table starts at 1, one step early: ᾱ_0 is what is left after the first step, α_0."
        ),
        "not_scaled": (
            "Right for T = 1000, but a shorter process has to lose as much in fewer steps: scale "
            "both ends of β by 1000 / T."
        ),
    },
    praise="Right: ᾱ falls from almost 1 to almost 0, whatever T is.",
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
