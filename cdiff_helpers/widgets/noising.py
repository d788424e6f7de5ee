"""A picture sinks into noise under a slider, and the schedule that it sinks by.

Home: notebook 07, used in 03.
"""

from functools import lru_cache

import ipywidgets as widgets
import torch
from torch import Tensor

from cdiff_helpers.data import ImageSet, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess, check_is, cosine_betas
from cdiff_helpers.visualization import BLUE, ORANGE, tile_images
from cdiff_helpers.widgets.captions import captioned
from cdiff_helpers.widgets.charts import Curve, svg_chart
from cdiff_helpers.widgets.controls import ENLARGED, WIDE, followed

SCHEDULES = ("cosine", "linear")


def render_noising(process: DiffusionProcess, x0: Tensor, t: int, seed: int = 0) -> bytes:
    """x0, its noisy version x_t and half the noise, named: PNG bytes. x0: (3, H, W)."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), device="cpu")
    xt, noise = process.add_noise(x0[None], torch.tensor([t], device="cpu"), noise[None])
    row = torch.cat([x0[None], xt, noise / 2])  # half: noise reaches beyond ±1 often
    names = ("x₀", f"x_t at t = {t}", "the noise, halved")
    return captioned(tile_images(to_image_range(row), columns=3), names, ENLARGED)


@lru_cache(maxsize=32)
def make_process(schedule: str, num_steps: int, max_beta: float) -> DiffusionProcess:
    """The process of a schedule: "cosine", or DDPM's "linear" β from 1e-4 to 0.02 at T = 1000.

    For another T the linear ends are scaled by 1000 / T, so that as much noise is added in all. No
    β is larger than `max_beta`.
    """
    if schedule == "cosine":
        betas = cosine_betas(num_steps)
    else:
        scale = 1000 / num_steps
        betas = torch.linspace(
            1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64, device="cpu"
        )
    return DiffusionProcess(num_steps, betas=betas.clamp(max=max_beta))


def schedule_svg(process: DiffusionProcess, t: int, **size) -> str:
    """The share of picture √ᾱ and of noise √(1-ᾱ) over time, dotted at t: an SVG image."""
    last = max(1, process.num_steps - 1)
    times = sorted({*range(0, process.num_steps, max(1, last // 120)), process.num_steps - 1})
    parts = {"√ᾱ: of the picture": process.alpha_bar, "√(1-ᾱ): of the noise": 1 - process.alpha_bar}
    curves = []
    for (name, squared), color, dashes in zip(parts.items(), (BLUE, ORANGE), ("", "6 3")):
        share = squared.sqrt().tolist()
        points = [(i / last, share[i]) for i in times]
        curves.append(Curve(points, color, name, dashes, marker=(t / last, share[t])))
    signal, noise = (curve.marker[1] for curve in curves)
    said = f"√ᾱ is {signal:.3f} and √(1-ᾱ) is {noise:.3f} at t = {t}"
    ends = {"x_ends": ("t = 0", f"t = {process.num_steps - 1}"), "y_ends": ("0", "1")}
    return svg_chart(curves, said, **ends, **size)


def noising_explorer(data: ImageSet, *, num_steps: int = 1000, seed: int = 0) -> widgets.Widget:
    """Choose a schedule, T, the largest β, a class, a picture and a time; see curves and pictures.

    The pictures are x₀, x_t and the noise at half strength; the words give ᾱ_t in numbers.
    """
    check_is(ImageSet, "Try load_cifar10().", data=data)
    of_class = {
        name: (data.labels == i).nonzero()[:, 0].tolist() for i, name in enumerate(data.classes)
    }
    fewest = min(len(places) for places in of_class.values())
    controls = {
        "schedule": widgets.Dropdown(options=SCHEDULES, description="schedule", style=WIDE),
        "num_steps": widgets.BoundedIntText(
            num_steps, min=2, max=4000, step=10, description="steps T", style=WIDE
        ),
        "max_beta": widgets.FloatSlider(
            0.999, min=0.01, max=0.999, step=0.001, description="largest β", style=WIDE,
            readout_format=".3f",
        ),
        "name": widgets.Dropdown(options=data.classes, description="class", style=WIDE),
        "picture": widgets.IntSlider(0, 0, min(fewest, 50) - 1, description="picture", style=WIDE),
        "t": widgets.IntSlider(num_steps // 4, 0, num_steps - 1, description="time t", style=WIDE),
    }  # fmt: skip

    def keep_inside(change) -> None:
        controls["t"].max = change["new"] - 1

    controls["num_steps"].observe(keep_inside, names="value")  # before the picture follows

    def show(schedule: str, num_steps: int, max_beta: float, name: str, picture: int, t: int):
        process = make_process(schedule, num_steps, max_beta)
        t = min(t, num_steps - 1)
        x0, _ = data[of_class[name][picture]]
        kept = float(process.alpha_bar[t])
        words = (
            f"{schedule_svg(process, t)}<br>{name} at t = {t} of {num_steps}: ᾱ = {kept:.4f}, so "
            f"x_t is {kept**0.5:.3f} × the picture + {(1 - kept) ** 0.5:.3f} × the noise; "
            f"β = {float(process.betas[t]):.4f}"
        )
        return render_noising(process, x0, t, seed), words

    alt = "left: the clean picture; middle: the picture with noise; right: the noise, halved"
    return followed(show, controls, alt)
