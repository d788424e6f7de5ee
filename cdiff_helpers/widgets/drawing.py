"""Classes are picked, and images generated for them. Home: notebook 07, used in 06."""

import html
from collections.abc import Callable

import ipywidgets as widgets

from cdiff_helpers import validation
from cdiff_helpers.data import CLASS_NAMES
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import DEFAULT_SOLVER, DEFAULT_STEPS, sample_conditional_images
from cdiff_helpers.visualization import png_bytes, tile_images
from cdiff_helpers.widgets.controls import SCALE, class_menu, followed, guidance_slider


def render_samples(
    model: Callable, process: DiffusionProcess, label: int, *, count: int = 4, **options
) -> bytes:
    """`count` images of one class, side by side: PNG bytes. The options are the sampler's."""
    images = sample_conditional_images(model, process, [label] * count, **options)
    return png_bytes(tile_images(images, columns=count), SCALE)


def class_picker(
    model: Callable,
    process: DiffusionProcess,
    *,
    count: int = 4,
    num_steps: int | None = DEFAULT_STEPS[DEFAULT_SOLVER],
) -> widgets.Widget:
    """Pick a class, a seed and a guidance scale; see `count` images generated for them."""
    validation.same_schedule(model, process)
    count = validation.whole("count", count)
    seed = widgets.IntSlider(0, 0, 99, description="seed")
    controls = {"label": class_menu(7), "seed": seed, "guidance_scale": guidance_slider()}
    for control in controls.values():
        control.continuous_update = False  # act when the handle is let go, not on its way

    def show(**chosen) -> tuple[bytes, str]:
        text = f"{count} × {CLASS_NAMES[chosen['label']]}, {num_steps} steps of {DEFAULT_SOLVER}"
        png = render_samples(model, process, count=count, num_steps=num_steps, **chosen)
        return png, html.escape(text)

    return followed(show, controls, f"{count} generated images of the picked class")
