"""A monitor around the training loop. Home: notebook 07, used in 05 and 08."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import ipywidgets as widgets
import numpy as np
from IPython.display import display

from cdiff_helpers.visualization import BLUE, GREY, png_bytes, running_mean, tile_images
from cdiff_helpers.widgets.charts import Curve, svg_chart
from cdiff_helpers.widgets.controls import Panel


def loss_svg(
    losses: Sequence[float], reference: Sequence[float] | None = None, *, total: int, smooth=50
) -> str:
    """The losses so far, raw and as a running mean, on a logarithmic axis: an SVG image.

    `total` training steps fit on the axis; `reference` is a recorded run's losses, drawn in grey.
    """
    last, values = max(total, 2) - 1, np.asarray(losses, dtype=float)
    recorded = running_mean([] if reference is None else reference, smooth)[: last + 1]
    mean = running_mean(values, smooth)
    known = np.concatenate([values, recorded])
    known = known[np.isfinite(known) & (known > 0)]
    low, high = (known.min() / 1.1, known.max() * 1.1) if known.size else (0.1, 1.0)

    def heights(losses: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):  # what has no logarithm is not drawn
            return np.log(losses / low) / np.log(high / low)

    curves = [Curve(heights(recorded), GREY, "a recorded run", "6 3")] if len(recorded) else []
    curves += [Curve(heights(values), BLUE, opacity=0.3), Curve(heights(mean), BLUE, "this run")]
    alt = "no loss yet"
    if len(values):
        alt = f"loss {mean[-1]:.4f} after {len(values)} of {last + 1} updates"
    ends = {"x": ("update 1", str(last + 1)), "y": (f"{low:.3g}", f"{high:.3g}")}
    return svg_chart(curves, alt, last, **ends)


class RunDisplay(Panel):
    """A run's numbers and loss curve, and samples of it; the arguments are `monitor`'s."""

    def __init__(self, state, sample: Callable | None, reference: Sequence[float] | None):
        super().__init__({}, "images by the EMA model" if sample else "")
        self.state, self.reference, self.progress = state, reference, widgets.HTML()
        self.children = (self.progress, self.image, self.caption, self.message)
        self.first, self.start = state.index, time.monotonic()

    def show_progress(self, step, ended: bool = False) -> None:
        """Say how far the run is, over its loss curve; `ended` is True when no step follows."""
        config, done = self.state.config, self.state.index
        total, seconds = config.num_updates, max(time.monotonic() - self.start, 1e-9)
        rate = max(done - self.first, 1) / seconds
        outlook = f"{(total - done) / rate:,.0f} s left"
        if ended:
            outlook = f"{'finished' if done >= total else 'stopped'} after {seconds:,.0f} s"
        now = " · none of them now"  # a finished run, or one that failed in its first update
        if step is not None:
            now = (
                f" · loss {float(step.loss):.4f} · learning rate {step.learning_rate:.2e} · "
                f"{rate * config.batch_size:,.0f} images/s · {outlook}"
            )
        curve = loss_svg(self.state.losses.tolist(), self.reference, total=total)
        self.progress.value = f"{done:,} of {total:,} updates{now}<br>{curve}"

    def show_samples(self, sample: Callable) -> None:
        """Show new samples; the time they take is not the training's."""
        start, images = time.monotonic(), sample()
        self.image.value = png_bytes(tile_images(images, len(images)), 3)
        self.message.value = ""
        self.start += time.monotonic() - start


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

    It shows the loss, the rate and, every `sample_seconds`, the images (N, 3, H, W) in [0, 1] that
    `sample()` returns; `reference` is another run's losses. An error in the display is shown there
    and does not stop the run.
    """
    panel, step = RunDisplay(state, sample, reference), None
    display(panel)
    shown = sampled = time.monotonic()
    try:
        for step in steps:
            yield step
            now = time.monotonic()
            if now - shown >= every_seconds:
                panel.attempt(panel.show_progress, step)
                shown = now
            if sample and now - sampled >= sample_seconds:
                panel.attempt(panel.show_samples, sample)
                sampled = time.monotonic()
        if sample:  # not after an interrupt: who stops does not want to wait
            panel.attempt(panel.show_samples, sample)
    finally:
        panel.attempt(panel.show_progress, step, True)
