"""Classes are picked, and drawn.

Home: notebook 07, used in 06.
"""

from collections.abc import Callable

import ipywidgets as widgets

from cdiff_helpers.data import CLASS_NAMES
from cdiff_helpers.diffusion import DiffusionProcess, check_same_num_steps
from cdiff_helpers.sampling import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    GUIDANCE_SCALE,
    sample_conditional_images,
)
from cdiff_helpers.visualization import png_bytes, tile_images
from cdiff_helpers.widgets.controls import ENLARGED, WIDE, followed


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
    num_steps: int = DEFAULT_STEPS[DEFAULT_SOLVER],
    solver: str = DEFAULT_SOLVER,
) -> widgets.Widget:
    """Pick a class, a seed and a guidance scale; see `count` pictures drawn for them."""
    check_same_num_steps(model, process)
    names = [(name, label) for label, name in enumerate(CLASS_NAMES)]
    controls = {
        "label": widgets.Dropdown(options=names, value=7, description="class", style=WIDE),
        "seed": widgets.IntSlider(0, 0, 99, description="seed", style=WIDE),
        "guidance_scale": widgets.FloatSlider(
            GUIDANCE_SCALE, min=0, max=5, step=0.5, description="guidance scale", style=WIDE
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
