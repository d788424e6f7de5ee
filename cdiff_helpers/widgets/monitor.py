"""A monitor around the training loop: the loss as it falls, the rate, and samples now and then.

Home: notebook 07, used in 05 and 08.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import ipywidgets as widgets
import numpy as np
from IPython.display import display

from cdiff_helpers.visualization import BLUE, GREY, png_bytes, running_mean, tile_images
from cdiff_helpers.widgets.charts import Curve, svg_chart
from cdiff_helpers.widgets.controls import picture, told

ENLARGED = 3
POINTS = 240  # of a curve at most: more than the eye tells apart


def loss_svg(
    losses: Sequence[float],
    reference: Sequence[float] | None = None,
    *,
    total: int | None = None,
    smooth: int = 50,
    **size,
) -> str:
    """The losses so far, raw and as a running mean, on a logarithmic axis: an SVG image.

    `total` updates fit on the axis; `reference` is a recorded run's losses, drawn behind in grey.
    """
    total = max(total or len(losses), 2)
    mean = running_mean(losses, smooth) if len(losses) else np.empty(0)
    grey = running_mean(reference, smooth)[:total] if reference is not None else np.empty(0)
    known = np.concatenate([np.asarray(losses, dtype=float), grey])
    known = known[np.isfinite(known) & (known > 0)]
    low, high = (known.min() / 1.1, known.max() * 1.1) if known.size else (0.1, 1.0)

    def points(values: Sequence[float]) -> list[tuple[float, float]]:
        shown = (
            sorted(set(np.linspace(0, len(values) - 1, POINTS).astype(int))) if len(values) else []
        )
        height = {i: np.log(values[i] / low) / np.log(high / low) for i in shown if values[i] > 0}
        return [(i / (total - 1), h) for i, h in height.items() if np.isfinite(h)]

    curves = [Curve(points(grey), GREY, "a recorded run", "6 3")] if len(grey) else []
    curves += [Curve(points(losses), BLUE, opacity=0.3), Curve(points(mean), BLUE, "this run")]
    said = "no loss yet"
    if len(losses):
        said = f"loss {mean[-1]:.4f} after {len(losses)} of {total} updates"
    ends = {"x_ends": ("update 1", str(total)), "y_ends": (f"{low:.3g}", f"{high:.3g}")}
    return svg_chart(curves, said, **ends, **size)


class RunDisplay:
    """What a monitor shows of a run: words, the loss curve, and pictures. `box` is the widget.

    `state` is the run's TrainState; the other arguments are `monitor`'s.
    """

    def __init__(self, state, sample: Callable | None, reference: Sequence[float] | None):
        self.state, self.sample, self.reference = state, sample, reference
        self.words, self.curve, self.picture = widgets.HTML(), widgets.HTML(), picture()
        said = widgets.Label("pictures by the averaged weights" if sample else "")
        self.box = widgets.VBox([self.words, self.curve, self.picture, said])
        self.first, self.since, self.drawing = state.index, time.monotonic(), 0.0
        self.wrong = ""  # what went wrong in drawing pictures

    def renew(self, step, ended: bool = False) -> None:
        """Redraw the curve, and say how far the run is; `ended` is True when no step follows."""
        try:
            self.curve.value = loss_svg(
                self.state.losses.tolist(), self.reference, total=self.state.config.num_updates
            )
            self.words.value = self.summary(step, ended) + self.wrong
        except Exception as error:  # a curve is not worth the run
            self.words.value = told(error)

    def summary(self, step, ended: bool) -> str:
        """One line: updates, loss, learning rate, images a second, and the time that is left."""
        config, done = self.state.config, self.state.index
        total, batch = config.num_updates, config.batch_size
        if step is None:  # a finished run, or one that failed in its first update
            return f"{done:,} of {total:,} updates · none of them now"
        passed = max(time.monotonic() - self.since - self.drawing, 1e-9)
        rate = max(done - self.first, 1) * batch / passed
        left = f"{(total - done) * batch / rate:,.0f} s left"
        if ended:
            left = f"{'finished' if done >= total else 'stopped'} after {passed:,.0f} s"
        return (
            f"{done:,} of {total:,} updates · loss {float(step.loss):.4f} · learning rate "
            f"{step.learning_rate:.2e} · {rate:,.0f} images/s · {left}"
        )

    def draw(self) -> None:
        """Show new pictures; the time they take is not the training's."""
        began, self.wrong = time.monotonic(), ""
        try:
            pictures = self.sample()
            self.picture.value = png_bytes(tile_images(pictures, len(pictures)), ENLARGED)
        except Exception as error:  # nor is a picture
            self.wrong = f"<br>{told(error)}"
            self.words.value += self.wrong
        self.drawing += time.monotonic() - began


def monitor(
    steps: Iterable,
    state,
    *,
    sample: Callable | None = None,
    reference: Sequence[float] | None = None,
    every_seconds: float = 1.0,
    sample_seconds: float = 20.0,
) -> Iterator:
    """The same steps, with a display that follows them: `for step in monitor(train(…), state): …`.

    `sample` is called without arguments every `sample_seconds` for pictures (N, 3, H, W) in [0, 1],
    such as `lambda: sample_conditional_images(state.ema.model, …)`; its time is not counted in the
    rate. `reference` is another run's losses with the same weights. The display is renewed by time,
    not by step, and once more when the steps end or are interrupted. What goes wrong in drawing is
    told there and does not stop the run.
    """
    shown, step = RunDisplay(state, sample, reference), None
    display(shown.box)
    renewed = sampled = time.monotonic()
    try:
        for step in steps:
            yield step
            now = time.monotonic()
            if now - renewed >= every_seconds:
                shown.renew(step)
                renewed = now
            if sample and now - sampled >= sample_seconds:
                shown.draw()
                sampled = time.monotonic()
        if sample:  # not after an interrupt: who stops does not want to wait
            shown.draw()
    finally:
        shown.renew(step, ended=True)
