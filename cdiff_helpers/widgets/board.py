"""The sampler's board: choose, draw, stop, and scrub what was drawn.

Home: notebook 07, used in 06. Drawing runs in a thread of its own, so that the kernel's main thread
is free for the Stop button's message.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from cdiff_helpers.data import CLASS_NAMES, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    SOLVERS,
    Frame,
    denoise,
    solver_and_times,
)
from cdiff_helpers.visualization import png_bytes, tile_images
from cdiff_helpers.widgets.controls import WIDE, guarded, picture, told

ENLARGED = 2  # screen pixels a side of each pixel


def render_board(frame: Frame, per_class: int) -> np.ndarray:
    """The pictures x_t of a frame, one row a class: uint8 (rows * 32, per_class * 32, 3)."""
    return tile_images(to_image_range(frame.xt), per_class)


class SamplerBoard:
    """Controls, the thread that draws for them, and the frames it has drawn: `box` is the widget.

    `draw()`, `stop()` and `save()` are what the buttons do; `thread` is the drawing one, or None.
    `frames` holds each step's pixels and `times` its t.
    """

    def __init__(self, model: Callable, process: DiffusionProcess, **chosen):
        self.model, self.process = model, process
        self.frames: list[np.ndarray] = []
        self.times: list[int] = []
        self.thread: threading.Thread | None = None
        self.stopped = threading.Event()
        self.controls = board_controls(process, **chosen)
        self.buttons = board_buttons()
        self.progress = widgets.IntProgress(0, 0, 1, description="progress", style=WIDE)
        self.frame = widgets.IntSlider(
            0, 0, 0, description="step", style=WIDE, disabled=True, readout=True
        )
        self.picture, self.words = picture(), widgets.HTML()
        self.file = widgets.Text("samples.png", description="save as", style=WIDE)
        for name, button in self.buttons.items():
            button.on_click(guarded(getattr(self, name), self.words))
        self.frame.observe(lambda change: self.show(change["new"]), names="value")
        self.box = widgets.VBox(
            [
                *self.controls.values(),
                widgets.HBox(list(self.buttons.values())),
                self.progress,
                self.picture,
                self.frame,
                self.words,
                self.file,
            ]
        )

    def draw(self) -> None:
        """Begin to draw what is chosen; what is being drawn is stopped first."""
        self.stop()
        if self.thread:
            self.thread.join()
        self.stopped.clear()
        asked = {name: control.value for name, control in self.controls.items()}
        self.thread = threading.Thread(target=self.work, args=(asked,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the drawing after the network call that is under way."""
        self.stopped.set()

    def save(self) -> None:
        """Write the shown frame as a PNG file."""
        if not self.frames:
            raise ValueError("nothing was drawn yet; press Draw first.")
        path = Path(self.file.value).expanduser()
        path.write_bytes(png_bytes(self.frames[self.frame.value], ENLARGED))
        self.words.value = f"saved in {path}"

    def work(self, asked: dict) -> None:
        """Draw, frame by frame; runs in the thread."""
        try:
            self.fill(**asked)
        except Exception as error:  # a thread's error would be seen by nobody
            self.words.value = told(error)

    def fill(self, classes, per_class: int, solver: str, num_steps: int, **options) -> None:
        """Keep and show each frame of the drawing until it ends or is stopped."""
        if not classes:
            raise ValueError("no class is chosen; choose at least one.")
        labels = [label for label in classes for _ in range(per_class)]
        _, times = solver_and_times(self.process, solver, num_steps)
        self.frames, self.times = [], []
        self.frame.disabled, self.progress.max = True, len(times)
        options |= {"solver": solver, "num_steps": num_steps}
        for frame in denoise(self.model, self.process, labels, **options):
            if self.stopped.is_set():
                break
            self.frames.append(render_board(frame, per_class))
            self.times.append(frame.t)
            self.progress.value = len(self.frames) - 1
            self.show(-1)
        self.frame.max = max(0, len(self.frames) - 1)
        self.frame.value, self.frame.disabled = self.frame.max, not self.frames
        if self.stopped.is_set():
            self.words.value = f"stopped after {len(self.frames)} of {len(times) + 1} frames"

    def show(self, index: int) -> None:
        """Show one of the frames and its time."""
        if self.frames:
            self.picture.value = png_bytes(self.frames[index], ENLARGED)
            t = self.times[index]
            self.words.value = "the finished pictures" if t < 0 else f"x_t at t = {t}"


def board_controls(
    process: DiffusionProcess,
    *,
    classes: tuple[str, ...] = CLASS_NAMES,
    per_class: int = 4,
    guidance_scale: float = 1.5,
    seed: int = 0,
) -> dict[str, widgets.Widget]:
    """What can be chosen, under the sampler's own names."""
    names = [(name, label) for label, name in enumerate(CLASS_NAMES)]
    steps = min(DEFAULT_STEPS[DEFAULT_SOLVER], process.num_steps)
    return {
        "classes": widgets.SelectMultiple(
            options=names, value=[CLASS_NAMES.index(name) for name in classes], rows=10,
            description="classes", style=WIDE,
        ),
        "per_class": widgets.IntSlider(per_class, 1, 10, description="of each", style=WIDE),
        "guidance_scale": widgets.FloatSlider(
            guidance_scale, min=0, max=5, step=0.25, description="guidance scale", style=WIDE
        ),
        "solver": widgets.Dropdown(
            options=list(SOLVERS), value=DEFAULT_SOLVER, description="solver", style=WIDE
        ),
        "num_steps": widgets.IntSlider(
            steps, 1, min(200, process.num_steps), description="steps", style=WIDE
        ),
        "seed": widgets.BoundedIntText(seed, min=0, max=2**31, description="seed", style=WIDE),
    }  # fmt: skip


def board_buttons() -> dict[str, widgets.Button]:
    """What can be done, under the board's methods' names."""
    return {
        "draw": widgets.Button(description="Draw", icon="paint-brush", button_style="primary"),
        "stop": widgets.Button(description="Stop", icon="stop"),
        "save": widgets.Button(description="Save as PNG", icon="save"),
    }


def sampler_board(model: Callable, process: DiffusionProcess, **chosen) -> widgets.Widget:
    """Pick classes, their number, guidance, solver, steps and seed; draw, stop, scrub and save.

    `classes`, `per_class`, `guidance_scale` and `seed` set what is chosen at first; that is drawn
    at once, so that a picture stands there before anybody clicks.
    """
    board = SamplerBoard(model, process, **chosen)
    board.draw()
    board.thread.join()
    return board.box
