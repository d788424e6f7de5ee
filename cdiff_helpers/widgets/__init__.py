"""Films that the browser scrubs alone, and controls that the kernel answers.

Home: notebook 07. Each widget is one function of plain arguments around a pure function that
renders an image from values. None of them uses an Output widget: those flash and hang.
"""

from cdiff_helpers.widgets.board import SamplerBoard, board_pixels, render_board, sampler_board
from cdiff_helpers.widgets.drawing import class_picker, render_samples
from cdiff_helpers.widgets.film import film, guidance_frames, noising_frames, sampling_frames
from cdiff_helpers.widgets.monitor import monitor
from cdiff_helpers.widgets.noising import noising_explorer
from cdiff_helpers.widgets.stepper import step_by_step
