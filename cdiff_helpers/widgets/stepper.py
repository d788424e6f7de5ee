"""One reverse step at a time, with all that goes into it.

Home: notebook 07, used in 06.
"""

from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from torch import Tensor

from cdiff_helpers.data import CLASS_NAMES, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess, check_same_num_steps
from cdiff_helpers.sampling import guided_noise, respaced_times, seeded_noise
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets.captions import captioned
from cdiff_helpers.widgets.controls import WIDE, guarded, picture

ENLARGED = 4  # screen pixels a side of each pixel
SAID = "x_t, the noise ε̂ in it, the guess x̂₀, the posterior mean, added noise, what comes out"


@dataclass(frozen=True)
class ReverseStep:
    """One ancestral step from t to t_prev: what went in and what came out, each (1, 3, H, W).

    DDPM, algorithm 2 and eq. 7. `sigma` is the posterior's standard deviation; 0 at the last step.
    """

    t: int
    t_prev: int
    xt: Tensor
    eps: Tensor
    x0: Tensor
    mean: Tensor
    added: Tensor
    after: Tensor
    sigma: float


@torch.no_grad()
def reverse_step(
    model: Callable,
    process: DiffusionProcess,
    xt: Tensor,
    times: tuple[int, int],
    label: int,
    *,
    guidance_scale: float,
    draw: Callable[[], Tensor],
) -> ReverseStep:
    """The ancestral step from times[0] to times[1] for one picture xt (1, 3, H, W)."""
    t, t_prev = (torch.tensor([time], device=xt.device) for time in times)
    y = torch.tensor([label], device=xt.device)
    null_class = getattr(model, "null_class", None)
    eps = guided_noise(model, xt, t, y, null_class, guidance_scale)
    x0 = process.predict_x0(xt, t, eps).clamp(-1, 1)
    eps = process.predict_noise(xt, t, x0)  # of the clamped guess, so that both make up xt
    mean, variance = process.posterior(x0, xt, t, t_prev)
    sigma = variance.sqrt() if times[1] >= 0 else torch.zeros_like(variance)
    added = sigma * draw()
    return ReverseStep(*times, xt, eps, x0, mean, added, mean + added, float(sigma))


def render_step(process: DiffusionProcess, step: ReverseStep) -> bytes:
    """The step's six pictures side by side, each over its term of the formula: PNG bytes."""
    row = torch.cat([step.xt, step.eps / 2, step.x0, step.mean, step.added, step.after])
    captions = [f"{name}\n{term}" for name, term in step_terms(process, step)]
    return captioned(tile_images(to_image_range(row), columns=len(row)), captions, ENLARGED)


def step_terms(process: DiffusionProcess, step: ReverseStep) -> list[tuple[str, str]]:
    """The six pictures' names, and each one's term with this step's numbers. DDPM, eq. 4 and 7."""
    from_x0, from_xt = mean_weights(process, step)
    kept = float(process.alpha_bar[step.t])
    return [
        ("x_t", f"t = {step.t}"),
        ("ε̂, halved", "the noise in x_t"),
        ("x̂₀", f"(x_t - {(1 - kept) ** 0.5:.2g} ε̂) / {kept**0.5:.2g}"),
        ("posterior mean μ̃", f"{from_x0:.3f} x̂₀ + {from_xt:.3f} x_t"),
        ("added noise", f"{step.sigma:.3f} z"),
        ("clean" if step.t_prev < 0 else f"x at t = {step.t_prev}", "μ̃ + added noise"),
    ]


def mean_weights(process: DiffusionProcess, step: ReverseStep) -> tuple[float, float]:
    """What x̂₀ and x_t count in the posterior mean. DDPM, eq. 7."""
    t, t_prev = (torch.tensor([i], device=step.xt.device) for i in (step.t, step.t_prev))
    one = torch.ones_like(step.xt)
    from_x0, _ = process.posterior(one, 0 * one, t, t_prev)
    from_xt, _ = process.posterior(0 * one, one, t, t_prev)
    return float(from_x0.flatten()[0]), float(from_xt.flatten()[0])


def step_words(process: DiffusionProcess, step: ReverseStep) -> str:
    """The step as one formula with its numbers, as HTML."""
    from_x0, from_xt = mean_weights(process, step)
    target = "the clean picture" if step.t_prev < 0 else f"x at t = {step.t_prev}"
    return (
        f"{target} = {from_x0:.3f} x̂₀ + {from_xt:.3f} x_t + {step.sigma:.3f} z, from t = {step.t}"
    )


class Stepper:
    """A picture on its way back, step by step: `box` is the widget, `steps` what was done so far.

    `forward()` does the next step and `restart()` goes back to pure noise; the buttons call them.
    """

    def __init__(self, model: Callable, process: DiffusionProcess, num_steps: int, label: int):
        check_same_num_steps(model, process)
        self.model, self.process = model, process
        self.times = [*respaced_times(process.num_steps, num_steps), -1]
        names = [(name, i) for i, name in enumerate(CLASS_NAMES)]
        self.controls = {
            "label": widgets.Dropdown(options=names, value=label, description="class", style=WIDE),
            "guidance_scale": widgets.FloatSlider(
                1.0, min=0, max=5, step=0.5, description="guidance scale", style=WIDE
            ),
            "seed": widgets.BoundedIntText(0, min=0, max=2**31, description="seed", style=WIDE),
        }
        self.buttons = {
            "forward": widgets.Button(description="one step", button_style="primary"),
            "restart": widgets.Button(description="back to noise"),
        }
        self.picture, self.words = picture(), widgets.HTML()
        for name, button in self.buttons.items():
            button.on_click(guarded(getattr(self, name), self.words))
        for control in self.controls.values():
            control.observe(guarded(self.restart, self.words), names="value")
        row = widgets.HBox(list(self.buttons.values()))
        below = [self.picture, widgets.Label(SAID), self.words]
        self.box = widgets.VBox([*self.controls.values(), row, *below])
        self.restart()

    def restart(self) -> None:
        """Begin again from pure noise, and do the first step."""
        self.steps: list[ReverseStep] = []
        self.draw = seeded_noise(self.controls["seed"].value, 1, self.process.alpha_bar.device)
        self.xt = self.draw()
        self.forward()

    def forward(self) -> None:
        """Do the next step and show it; at the clean picture there is none."""
        done = len(self.steps)
        if done == len(self.times) - 1:
            self.words.value = "this is the clean picture; go back to noise for another walk"
            return
        options = {"guidance_scale": self.controls["guidance_scale"].value, "draw": self.draw}
        label, times = self.controls["label"].value, tuple(self.times[done : done + 2])
        step = reverse_step(self.model, self.process, self.xt, times, label, **options)
        self.steps.append(step)
        self.xt = step.after
        self.picture.value = render_step(self.process, step)
        self.words.value = step_words(self.process, step)


def step_by_step(
    model: Callable,
    process: DiffusionProcess,
    *,
    num_steps: int = 20,
    label: int = 8,
    walked: int = 1,
) -> widgets.Widget:
    """Walk back from noise by a button: x_t, ε̂, x̂₀, posterior mean, added noise, and x after it.

    Ancestral sampling (DDPM, algorithm 2) in `num_steps` steps, of which the first `walked` are
    done already; the captions and words give the step's numbers.
    """
    stepper = Stepper(model, process, num_steps, label)
    for _ in range(min(walked, num_steps) - 1):
        stepper.forward()
    return stepper.box
