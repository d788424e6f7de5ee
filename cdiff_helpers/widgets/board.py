"""The sampler's board: choose, draw, stop, and scrub what was drawn.

Home: notebook 07. Drawing runs in a thread of its own, so that the kernel's main thread is free for
the Stop button's message.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch

from cdiff_helpers.data import CLASS_NAMES, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess, check_same_num_steps
from cdiff_helpers.runtime import write_atomically
from cdiff_helpers.sampling import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    GUIDANCE_SCALE,
    SOLVERS,
    Frame,
    check_model,
    denoise,
    evaluating,
    solver_and_times,
)
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets.captions import captioned
from cdiff_helpers.widgets.controls import WIDE, Checkboxes, guarded, picture, told

AT_ONCE = 32  # pictures a network call: Stop waits for one such call, a tenth of a second
ROOM = 20  # pictures side by side at one screen pixel a pixel: 640 screen pixels


class Stopped(Exception):
    """Raised inside a drawing that was asked to stop."""


def in_parts(model: Callable, stopped: threading.Event) -> Callable:
    """The model, asked about AT_ONCE pictures at a time; raises Stopped when the event is set."""

    def ask(xt, t, y):
        eps = []
        for part in zip(xt.split(AT_ONCE), t.split(AT_ONCE), y.split(AT_ONCE)):
            if stopped.is_set():
                raise Stopped
            eps.append(model(*part))
        return torch.cat(eps)

    for name in ("null_class", "num_steps"):
        if hasattr(model, name):
            setattr(ask, name, getattr(model, name))
    return ask


def board_pixels(frame: Frame, columns: int) -> np.ndarray:
    """The pictures x_t of a frame, one column a class: uint8 (rows * 32, columns * 32, 3)."""
    by_class = frame.xt.unflatten(0, (columns, -1))  # (columns, rows, 3, 32, 32)
    return tile_images(to_image_range(by_class.transpose(0, 1).flatten(0, 1)), columns)


def render_board(pixels: np.ndarray, names: Sequence[str]) -> bytes:
    """A board's pixels, each column over its class's name, as large as there is room: PNG bytes."""
    tall, wide = pixels.shape[0] // 32, pixels.shape[1] // 32
    return captioned(pixels, names, max(2, min(5, ROOM // max(tall, wide))))


class SamplerBoard:
    """Controls, the thread that draws for them, and the frames it has drawn: `box` is the widget.

    `draw()`, `stop()` and `save()` are what the buttons do; `thread` is the drawing one, or None.
    `frames` holds each step's pixels, `times` its t and `names` the columns' classes.
    """

    def __init__(self, model: Callable, process: DiffusionProcess, **chosen):
        check_same_num_steps(model, process)
        self.model, self.process = model, process
        self.frames: list[np.ndarray] = []
        self.times: list[int] = []
        self.names: list[str] = []
        self.thread: threading.Thread | None = None
        self.stopped = threading.Event()
        self.controls = board_controls(process, **chosen)
        self.buttons = board_buttons()
        self.progress = widgets.IntProgress(0, 0, 1, description="progress", style=WIDE)
        self.frame = widgets.IntSlider(0, 0, 0, description="step", style=WIDE, disabled=True)
        self.picture, self.said, self.words = picture(), widgets.Label(), widgets.HTML()
        self.file = widgets.Text("samples.png", description="save as", style=WIDE)
        for name, button in self.buttons.items():
            button.on_click(guarded(getattr(self, name), self.words))
        scrub = guarded(lambda: self.show(self.frame.value), self.words)
        self.frame.observe(scrub, names="value")
        row = widgets.HBox(list(self.buttons.values()))
        shown = [self.progress, self.picture, self.said, self.frame, self.words, self.file]
        self.box = widgets.VBox([*self.controls.values(), row, *shown])
        self.box.observe(lambda change: change["new"] or self.stop(), names="comm")  # at close()

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
        """Write the picture that is shown to a PNG file, whole or not at all."""
        if not self.frames:
            raise ValueError("nothing was drawn yet; press Draw first.")
        path = Path(self.file.value).expanduser()
        write_atomically(path, self.picture.value)
        self.words.value = f"saved in {path}"

    def work(self, asked: dict) -> None:
        """Draw, frame by frame, and make the frames ready to scrub; runs in the thread."""
        try:
            self.fill(**asked)
            told_last = None
        except Stopped:
            told_last = f"stopped after {len(self.frames)} of {self.progress.max + 1} frames"
        except Exception as error:  # a thread's error would be seen by nobody
            told_last = told(error)
        self.frame.max = max(0, len(self.frames) - 1)
        self.frame.value, self.frame.disabled = self.frame.max, not self.frames
        self.words.value = told_last or self.words.value

    def fill(self, classes, per_class: int, solver: str, num_steps: int, **options) -> None:
        """Keep and show each frame of the drawing; raises Stopped when it is stopped."""
        if not classes:
            raise ValueError("no class is chosen; check at least one.")
        labels = [label for label in classes for _ in range(per_class)]
        check_model(self.model, self.process, options["guidance_scale"])
        _, times = solver_and_times(self.process, solver, num_steps)
        self.frames, self.times, self.names = [], [], [CLASS_NAMES[label] for label in classes]
        self.said.value = f"generated pictures, one column a class: {', '.join(self.names)}"
        self.frame.disabled, self.progress.value, self.progress.max = True, 0, len(times)
        options |= {"solver": solver, "num_steps": num_steps}
        with evaluating(self.model):
            model = in_parts(self.model, self.stopped)
            for frame in denoise(model, self.process, labels, **options):
                self.frames.append(board_pixels(frame, len(classes)))
                self.times.append(frame.t)
                self.progress.value = len(self.frames) - 1
                self.show(-1)

    def show(self, index: int) -> None:
        """Show one of the frames and its time."""
        if self.frames:
            self.picture.value = render_board(self.frames[index], self.names)
            t = self.times[index]
            self.words.value = "the finished pictures" if t < 0 else f"x_t at t = {t}"


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
    steps = min(num_steps or DEFAULT_STEPS[DEFAULT_SOLVER], process.num_steps)
    return {
        "classes": Checkboxes(CLASS_NAMES, [CLASS_NAMES.index(name) for name in classes]),
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

    `classes`, `per_class`, `guidance_scale`, `num_steps` and `seed` set what is chosen at first;
    that is drawn at once, so that a picture stands there before anybody clicks.
    """
    board = SamplerBoard(model, process, **chosen)
    board.draw()
    board.thread.join()
    return board.box
