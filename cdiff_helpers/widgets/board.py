"""The sampler's board: choose, generate, stop, and scrub. Home: notebook 07.

Sampling has a thread of its own: the kernel's reads the Stop button's message.
"""

import html
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import CLASS_NAMES, class_indices, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import write_atomically
from cdiff_helpers.sampling import DEFAULT_SOLVER, DEFAULT_STEPS, GUIDANCE_SCALE, SOLVERS, denoise
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets import controls
from cdiff_helpers.widgets.charts import captioned
from cdiff_helpers.widgets.controls import WIDE, Panel, error_html

AT_ONCE = 32  # images per network call: Stop waits for one such call, a tenth of a second
BOARD_SIZE = 640  # screen pixels of the longer side, while each image's pixel gets 2 to 5 of them


class InParts:
    """The model, asked about AT_ONCE images at a time; CancelledError once the event is set."""

    def __init__(self, model: Callable, stopped: threading.Event):
        self.model, self.stopped = model, stopped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)  # null_class, num_steps, eval, …

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        eps = []
        for part in zip(xt.split(AT_ONCE), t.split(AT_ONCE), y.split(AT_ONCE)):
            if self.stopped.is_set():
                raise CancelledError
            eps.append(self.model(*part))
        return torch.cat(eps)


def board_pixels(frame: Any, columns: int) -> np.ndarray:
    """The images x_t of a frame, one column per class: uint8 (rows * H, columns * W, 3)."""
    by_class = frame.xt.unflatten(0, (columns, -1))  # (columns, rows, 3, H, W)
    return tile_images(to_image_range(by_class.transpose(0, 1).flatten(0, 1)), columns)


def render_board(pixels: np.ndarray, names: Sequence[str]) -> bytes:
    """A board's pixels, each column over its class's name, as large as fits: PNG bytes."""
    return captioned(pixels, names, min(max(BOARD_SIZE // max(pixels.shape), 2), 5))


class SamplerBoard(Panel):
    """Controls, the thread that samples for them, and its frames: the pixels of each step."""

    def __init__(self, model: Callable, process: DiffusionProcess, **chosen):
        self.stopped = threading.Event()
        validation.same_schedule(model, process)
        self.model, self.process = model, process
        self.frames: list[np.ndarray] = []
        self.timesteps: list[int] = []
        self.thread: threading.Thread | None = None
        super().__init__(
            board_controls(process, **chosen),
            draw=widgets.Button(description="Draw", icon="paint-brush", button_style="primary"),
            stop=widgets.Button(description="Stop", icon="stop"),
            save=widgets.Button(description="Save as PNG", icon="save"),
        )
        wide = {"style": WIDE}
        self.progress = widgets.IntProgress(0, 0, 1, description="progress", **wide)
        self.step = widgets.IntSlider(0, 0, 0, description="step", disabled=True, **wide)
        self.step.observe(lambda _: self.attempt(self.show, self.step.value), names="value")
        self.file = widgets.Text("samples.png", description="save as", **wide)
        *above, image, caption, message = self.children
        self.children = (*above, self.progress, image, caption, self.step, message, self.file)

    def close(self) -> None:
        """Close the widget, and end the sampling that is under way."""
        self.stop()
        super().close()

    def draw(self) -> None:
        """Begin to sample what is chosen, in a thread; one under way is stopped first."""
        self.stop()
        if self.thread:
            self.thread.join()
        self.stopped.clear()
        self.thread = threading.Thread(target=self.sample, kwargs=self.values(), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the sampling after the network call that is under way."""
        self.stopped.set()

    def save(self) -> None:
        """Write the image that is shown to a PNG file, whole or not at all."""
        if not self.frames:
            raise ValueError("nothing was drawn yet; press Draw first.")
        path = Path(self.file.value).expanduser()
        write_atomically(path, self.image.value)
        self.message.value = f"saved in {html.escape(str(path))}"

    def sample(self, *, classes: Sequence[int], per_class: int, **options) -> None:
        """Make and show frame by frame, then let them be scrubbed; runs in the thread."""
        outcome, self.step.disabled = "the finished images", True
        try:
            if not classes:
                raise ValueError("no class is chosen; check at least one.")
            self.frames, self.timesteps = [], []
            self.names = [CLASS_NAMES[label] for label in classes]
            self.caption.value = f"generated images, one column per class: {', '.join(self.names)}"
            self.progress.value, self.progress.max = 0, options["num_steps"]
            labels = [label for label in classes for _ in range(per_class)]
            model = InParts(self.model, self.stopped)
            for frame in denoise(model, self.process, labels, **options):
                self.frames.append(board_pixels(frame, len(classes)))
                self.timesteps.append(frame.t)
                self.progress.value = len(self.frames) - 1
                self.show(-1)
        except CancelledError:
            outcome = f"stopped after {len(self.frames)} of {self.progress.max + 1} frames"
        except Exception as error:  # nobody would see a thread's error
            outcome = error_html(error)
        self.step.max = max(0, len(self.frames) - 1)
        self.step.value, self.step.disabled = self.step.max, not self.frames
        self.message.value = outcome

    def show(self, index: int) -> None:
        """Show one of the frames and its timestep."""
        if self.frames:
            self.image.value = render_board(self.frames[index], self.names)
            t = self.timesteps[index]
            self.message.value = "the finished images" if t < 0 else f"x_t at t = {t}"


def board_controls(
    process: DiffusionProcess,
    *,
    classes: Sequence[str] = CLASS_NAMES,
    per_class: int = 1,
    guidance_scale: float = GUIDANCE_SCALE,
    num_steps: int | None = None,
    seed: int = 0,
) -> dict[str, widgets.Widget]:
    """What can be chosen, under the sampler's own names."""
    T = process.num_steps
    steps = min(DEFAULT_STEPS[DEFAULT_SOLVER] or T, T) if num_steps is None else num_steps
    steps = validation.whole("num_steps", steps, 1, T)
    per_class = validation.whole("per_class", per_class, 1, 10)
    return {
        "classes": controls.Checkboxes(CLASS_NAMES, class_indices(classes)),
        "per_class": widgets.IntSlider(per_class, 1, 10, description="of each"),
        "guidance_scale": controls.guidance_slider(guidance_scale, step=0.25),
        "solver": widgets.Dropdown(options=[*SOLVERS], value=DEFAULT_SOLVER, description="solver"),
        "num_steps": widgets.IntSlider(steps, 1, min(max(steps, 200), T), description="steps"),
        "seed": controls.seed_field(seed),
    }


def sampler_board(model: Callable, process: DiffusionProcess, **chosen) -> widgets.Widget:
    """Pick classes, their number, guidance, solver, steps and seed; draw, stop, scrub and save.

    `classes`, `per_class`, `guidance_scale`, `num_steps` and `seed` are drawn at once.
    """
    board = SamplerBoard(model, process, **chosen)
    board.sample(**board.values())
    return board
