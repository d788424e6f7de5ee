"""Sliders: a picture that follows its controls.

Home: notebook 07. Each widget is one pure function that renders PNG bytes from plain values, and
ipywidgets controls around it; the picture is a `widgets.Image`, which neither flashes nor hangs.
"""

from collections.abc import Callable

import ipywidgets as widgets
import torch
from torch import Tensor

from cdiff_helpers.data import CLASS_NAMES, ImageSet, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.visualization import png_bytes, tile_images

WIDE = {"description_width": "8em"}
ENLARGED = 5  # screen pixels a side of each picture's pixel


def render_noising(process: DiffusionProcess, x0: Tensor, t: int, seed: int = 0) -> bytes:
    """x0, its noisy version x_t and the noise, side by side: PNG bytes. x0: (3, H, W)."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    xt, noise = process.add_noise(x0[None], torch.tensor([t]), noise[None])
    row = torch.cat([x0[None], xt, noise / 2])  # half: noise reaches beyond ±1 often
    return png_bytes(tile_images(to_image_range(row), columns=3), ENLARGED)


def noising_slider(process: DiffusionProcess, data: ImageSet, *, seed: int = 0) -> widgets.Widget:
    """Pick a picture and a time; see x0, x_t and the noise, and ᾱ in numbers."""
    last = process.num_steps - 1
    picture = widgets.IntSlider(0, 0, min(len(data), 100) - 1, description="picture", style=WIDE)
    time = widgets.IntSlider(last // 4, 0, last, description="time t", style=WIDE)

    def show(picture: int, time: int) -> tuple[bytes, str]:
        x0, label = data[picture]
        kept = float(process.alpha_bar[time])
        words = (
            f"{data.classes[label]} at t = {time}: ᾱ = {kept:.4f}, so x_t is {kept**0.5:.3f} × "
            f"the picture + {(1 - kept) ** 0.5:.3f} × the noise"
        )
        return render_noising(process, x0, time, seed), words

    alt = "left: the clean picture; middle: the picture with noise; right: the noise"
    return followed(show, {"picture": picture, "time": time}, alt)


def render_samples(
    model: Callable, process: DiffusionProcess, label: int, *, count: int = 4, **options
) -> bytes:
    """`count` pictures of one class, side by side: PNG bytes. The options are the sampler's."""
    images = sample_conditional_images(model, process, [label] * count, **options)
    return png_bytes(tile_images(images, columns=count), ENLARGED)


def class_picker(
    model: Callable,
    process: DiffusionProcess,
    *,
    count: int = 4,
    num_steps: int = 20,
    solver: str = "ddim",
) -> widgets.Widget:
    """Pick a class, a seed and a guidance scale; see `count` pictures drawn for them."""
    names = [(name, label) for label, name in enumerate(CLASS_NAMES)]
    controls = {
        "label": widgets.Dropdown(options=names, value=3, description="class", style=WIDE),
        "seed": widgets.IntSlider(0, 0, 99, description="seed", style=WIDE),
        "guidance_scale": widgets.FloatSlider(
            1.5, min=0, max=5, step=0.5, description="guidance scale", style=WIDE
        ),
    }
    for slider in controls.values():
        slider.continuous_update = False  # draw when the handle is let go, not on its way

    def show(label: int, **options) -> tuple[bytes, str]:
        png = render_samples(
            model, process, label, count=count, num_steps=num_steps, solver=solver, **options
        )
        return png, f"{count} × {CLASS_NAMES[label]}, {num_steps} steps of {solver}"

    return followed(show, controls, alt=f"{count} generated pictures of the picked class")


def followed(show: Callable, controls: dict[str, widgets.Widget], alt: str) -> widgets.Widget:
    """A box of controls over the picture and words that show(**values) returns, kept up to date.

    `alt` says below the picture what it shows. What goes wrong inside `show` appears in the words.
    """
    layout = widgets.Layout(max_width="100%", align_self="flex-start")  # neither cut nor stretched
    image, words = widgets.Image(format="png", layout=layout), widgets.HTML()

    def refresh(_change=None) -> None:
        try:
            image.value, words.value = show(**{k: c.value for k, c in controls.items()})
        except Exception as error:  # a callback's error would vanish in the kernel's log
            words.value = f"<b>This could not be drawn:</b> {error}"

    for control in controls.values():
        control.observe(refresh, names="value")
    refresh()
    return widgets.VBox([*controls.values(), image, widgets.Label(alt), words])
