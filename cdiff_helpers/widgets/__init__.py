"""Moving pictures: films that the browser scrubs alone, and controls that the kernel answers.

Home: notebook 07. Each widget is one function of plain arguments around a pure function that
renders a picture from values. None of them uses an Output widget: those flash and hang.
"""

from cdiff_helpers.widgets.board import SamplerBoard, board_pixels, render_board, sampler_board
from cdiff_helpers.widgets.captions import captioned
from cdiff_helpers.widgets.controls import followed
from cdiff_helpers.widgets.drawing import class_picker, render_samples
from cdiff_helpers.widgets.film import Film, film
from cdiff_helpers.widgets.frames import guidance_frames, noising_frames, sampling_frames
from cdiff_helpers.widgets.monitor import loss_svg, monitor
from cdiff_helpers.widgets.noising import (
    make_process,
    noising_explorer,
    render_noising,
    schedule_svg,
)
from cdiff_helpers.widgets.stepper import (
    ReverseStep,
    Stepper,
    render_step,
    reverse_step,
    step_by_step,
    step_terms,
)

__all__ = [
    "Film",
    "ReverseStep",
    "SamplerBoard",
    "Stepper",
    "board_pixels",
    "captioned",
    "class_picker",
    "film",
    "followed",
    "guidance_frames",
    "loss_svg",
    "make_process",
    "monitor",
    "noising_explorer",
    "noising_frames",
    "render_board",
    "render_noising",
    "render_samples",
    "render_step",
    "reverse_step",
    "sampler_board",
    "sampling_frames",
    "schedule_svg",
    "step_by_step",
    "step_terms",
]
