"""An image sinks into noise under a slider, and its schedule. Home: notebook 07, used in 03."""

import html
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import to_image_range
from cdiff_helpers.diffusion import DiffusionProcess, cosine_betas
from cdiff_helpers.visualization import BLUE, ORANGE, tile_images
from cdiff_helpers.widgets.charts import Curve, captioned, svg_chart
from cdiff_helpers.widgets.controls import SCALE, followed


@lru_cache(maxsize=32)
def make_process(schedule: str, num_steps: int, max_beta: float) -> DiffusionProcess:
    """The process of a schedule: "cosine", or DDPM's "linear" β from 1e-4 to 0.02 at T = 1000.

    For another T the linear ends are scaled by 1000 / T, so that as much noise is added in all. No
    β is larger than `max_beta`.
    """
    linear = torch.linspace(0.1, 20, num_steps, dtype=torch.float64, device="cpu") / num_steps
    betas = cosine_betas(num_steps) if schedule == "cosine" else linear
    return DiffusionProcess(num_steps, betas=betas.clamp(max=max_beta))


def render_noising(process: DiffusionProcess, x0: Tensor, t: int) -> bytes:
    """x0, its noisy version x_t and half the noise, named: PNG bytes. x0: (3, H, W)."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0), device="cpu")
    xt, noise = process.add_noise(x0[None], torch.tensor([t], device="cpu"), noise[None])
    row = torch.cat([x0[None], xt, noise / 2])  # half: noise reaches beyond ±1 often
    names = ("x₀", f"x_t at t = {t}", "the noise, halved")
    return captioned(tile_images(to_image_range(row), columns=3), names, SCALE)


def noising_html(process: DiffusionProcess, t: int, name: str) -> str:
    """The curves of √ᾱ and √(1-ᾱ), dotted at t, and what an image of the class is made of there."""
    alpha_bar, last = process.alpha_bar.numpy(), process.num_steps - 1
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    curves = [
        Curve(signal, BLUE, "√ᾱ: of the image", marker=t),
        Curve(noise, ORANGE, "√(1-ᾱ): of the noise", "6 3", marker=t),
    ]
    alt = f"√ᾱ is {signal[t]:.3f} and √(1-ᾱ) is {noise[t]:.3f} at t = {t}"
    chart = svg_chart(curves, alt, last, x=("t = 0", f"t = {last}"), y=("0", "1"))
    return (
        f"{chart}<br>{html.escape(name)} at t = {t} of {last + 1}: ᾱ = {alpha_bar[t]:.4f}, so x_t "
        f"is {signal[t]:.3f} × the image + {noise[t]:.3f} × the noise; β = {process.betas[t]:.4f}"
    )


def noising_explorer(data: Any) -> widgets.Widget:
    """Choose a schedule, T, the largest β, a class, an image and t; see curves and images.

    `data` is an ImageSet, or has its `labels`, `classes` and items.
    """
    y = validation.tensor("data.labels", getattr(data, "labels", None), "Try load_cifar10().")
    places = {name: (y == i).nonzero()[:, 0].tolist() for i, name in enumerate(data.classes)}
    names = [name for name in places if places[name]]  # a part of a set may lack classes
    fewest = min(len(places[name]) for name in names)
    controls = {
        "schedule": widgets.Dropdown(options=["cosine", "linear"], description="schedule"),
        "num_steps": widgets.BoundedIntText(1000, min=2, max=4000, step=10, description="steps T"),
        "max_beta": widgets.FloatSlider(
            0.999, min=0.01, max=0.999, step=0.001, description="largest β", readout_format=".3f"
        ),
        "name": widgets.Dropdown(options=names, description="class"),
        "i": widgets.IntSlider(0, 0, min(fewest, 50) - 1, description="image"),
        "t": widgets.IntSlider(250, 0, 999, description="time t"),
    }

    def limit_t(change) -> None:
        controls["t"].max = change["new"] - 1

    controls["num_steps"].observe(limit_t, names="value")  # before the image follows

    def show(*, schedule: str, num_steps: int, max_beta: float, name: str, i: int, t: int):
        process, t = make_process(schedule, num_steps, max_beta), min(t, num_steps - 1)
        x0, _ = data[places[name][i]]
        return render_noising(process, x0, t), noising_html(process, t, name)

    alt = "left: the clean image; middle: the image with noise; right: the noise, halved"
    return followed(show, controls, alt)
