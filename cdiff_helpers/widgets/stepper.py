"""One reverse step at a time, with all that goes into it. Home: notebook 07, used in 06."""

from collections.abc import Callable

import ipywidgets as widgets
import torch
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame, denoise
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets.charts import captioned
from cdiff_helpers.widgets.controls import Panel, class_menu, guidance_slider, seed_field

ALT = "x_t, the noise ε̂ in it, the guess x̂₀, the posterior mean, added noise, what comes out"


def explain_step(
    process: DiffusionProcess, frame: Frame, after: Frame
) -> tuple[dict[str, Tensor], str]:
    """The ancestral step from one frame to the next: six images (1, 3, H, W) by caption, a formula.

    DDPM, eq. 4 and 7. The noise ε̂ is that of the clamped guess, so that both make up x_t.
    """
    xt, x0, alpha_bar = frame.xt, frame.x0, float(process.alpha_bar[frame.t])
    t, t_prev = (torch.tensor([f.t], device=xt.device) for f in (frame, after))
    mean, variance = process.posterior(x0, xt, t, t_prev)
    one, zero, sigma = torch.ones_like(xt), torch.zeros_like(xt), float(variance.sqrt())
    from_x0, from_xt = (
        float(process.posterior(*terms, t, t_prev)[0].mean())
        for terms in ((one, zero), (zero, one))
    )
    noise = (xt - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
    name = "the clean image" if after.t < 0 else f"x at t = {after.t}"
    images = {
        f"x_t\nt = {frame.t}": xt,
        "ε̂, halved\nthe noise in x_t": noise / 2,
        f"x̂₀\n(x_t - {(1 - alpha_bar) ** 0.5:.2g} ε̂) / {alpha_bar**0.5:.2g}": x0,
        f"posterior mean μ̃\n{from_x0:.3f} x̂₀ + {from_xt:.3f} x_t": mean,
        f"added noise\n{sigma:.3f} z": after.xt - mean,
        f"{name}\nμ̃ + added noise": after.xt,
    }
    formula = f"{name} = {from_x0:.3f} x̂₀ + {from_xt:.3f} x_t + {sigma:.3f} z, from t = {frame.t}"
    return images, formula


class Stepper(Panel):
    """An image on its way back, step by step; `frames` are denoise's, as far as it has come."""

    def __init__(self, model: Callable, process: DiffusionProcess, num_steps: int, label: int):
        self.model, self.process, self.num_steps = model, process, num_steps
        chosen = {"label": class_menu(label), "guidance_scale": guidance_slider(1)}
        super().__init__(
            chosen | {"seed": seed_field()},
            ALT,
            forward=widgets.Button(description="one step", button_style="primary"),
            restart=widgets.Button(description="back to noise"),
        )
        self.on_change(self.restart)
        self.restart()

    def restart(self) -> None:
        """Begin again from pure noise, and do the first step."""
        options = {"solver": "ddpm", "num_steps": self.num_steps} | self.values()
        self.walk = denoise(self.model, self.process, [options.pop("label")], **options)
        self.frames = [next(self.walk)]
        self.forward()

    def forward(self) -> None:
        """Do the next step and show it; after the clean image there is none."""
        after = next(self.walk, None)
        if after is None:
            self.message.value = "this walk is over; go back to noise for another one"
            return
        images, self.message.value = explain_step(self.process, self.frames[-1], after)
        pixels = tile_images(to_image_range(torch.cat([*images.values()])), len(images))
        self.image.value = captioned(pixels, [*images], scale=4)
        self.frames.append(after)


def step_by_step(
    model: Callable, process: DiffusionProcess, *, num_steps=20, label=8, walked=1
) -> widgets.Widget:
    """Walk back from noise by a button: x_t, ε̂, x̂₀, posterior mean, added noise, and x after it.

    Ancestral sampling (DDPM, algorithm 2) in `num_steps` steps, `walked` of them done already.
    """
    stepper = Stepper(model, process, validation.whole("num_steps", num_steps), label)
    for _ in range(min(validation.whole("walked", walked), num_steps) - 1):
        stepper.forward()
    return stepper
