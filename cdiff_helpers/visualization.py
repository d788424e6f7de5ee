"""Figures: the schedule, the noising, the loss, and generated images. Home: notebook 07.

Each is a matplotlib Figure with alternative text, made without pyplot: nothing has to be closed.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import CLASS_NAMES, to_image_range
from cdiff_helpers.data.images import to_uint8
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame, sample_conditional_images

# Okabe and Ito's palette, which color-blind readers can tell apart; one color for one thing
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


class DescribedFigure(Figure):
    """A matplotlib Figure that shows itself in a notebook together with its alternative text."""

    alt = "a figure"

    def __repr__(self) -> str:
        return f"<Figure: {self.alt}>"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = {"image/png": figure_bytes(self), "text/plain": repr(self)}
        display(bundle, metadata={"image/png": {"alt": self.alt}}, raw=True)


def figure_bytes(figure: Figure) -> bytes:
    """The figure as a small PNG file: no transparency, 256 colors where it holds no images."""
    drawn, png = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    pixels = Image.open(drawn).convert("RGB")
    if not any(axis.images for axis in figure.axes):
        pixels = pixels.quantize(256)  # lines and letters; images keep every color
    pixels.save(png, format="PNG", optimize=True)
    return png.getvalue()


def new_figure(
    alt: str, rows: int = 1, columns: int = 1, *, size: tuple[float, float]
) -> tuple[DescribedFigure, np.ndarray]:
    """An empty figure of `size` inches and its axes, always as an array (rows, columns)."""
    figure = DescribedFigure(figsize=size, layout="constrained")
    figure.alt = alt
    return figure, figure.subplots(rows, columns, squeeze=False)


def show_images(
    images: Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    rows: Sequence[str] | None = None,
    size: float = 1.0,
    alt: str | None = None,
) -> Figure:
    """A grid of images (N, 3, H, W) in [0, 1], row by row.

    `titles` names each image, `rows` each row; `size` is the side of an image in inches. Raises
    ValueError for another shape or range.
    """
    count = len(validation.images_in_unit_range(images))
    columns = validation.whole("columns", min(count, 10) if columns is None else columns)
    validation.number("size", size, 0.1, hint=" inches")
    num_rows = -(-count // columns)
    titles = validation.names("titles", titles, count)
    rows = validation.names("rows", rows, num_rows)
    names = ", ".join(filter(None, titles or rows or ["untitled"]))
    alt = alt or f"a grid of {count} images: {names}"
    titled = sum(any(titles[i : i + columns]) for i in range(0, len(titles), columns))
    width = columns * size * 1.03 + (0.09 * max(map(len, rows)) + 0.1 if rows else 0)
    height = num_rows * (size + 0.03) + titled * 0.25
    figure, axes = new_figure(alt, num_rows, columns, size=(width, height))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, image in zip(axes.flat, images):
        axis.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    for axis, title in zip(axes.flat, titles):
        axis.set_title(title, fontsize=min(9, 12 * size))  # neighbors must not overlap
    for axis, name in zip(axes[:, 0], rows):
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def plot_beta_schedule(process: DiffusionProcess) -> Figure:
    """The process's tables over t: β on a logarithmic scale, α and ᾱ on a linear one."""
    first, last = validation.schedule(process).betas[[0, -1]].tolist()
    alt = f"beta goes from {first:.2g} to {last:.3f}, alpha is 1 - beta, alpha-bar falls to 0"
    figure, [[left, right]] = new_figure(alt, 1, 2, size=(9, 3))
    left.semilogy(process.betas.cpu(), color=ORANGE)
    left.set(xlabel="time t", ylabel="β: share of noise added", title="each step's noise")
    right.plot(process.alphas.cpu(), color=GREEN, label="α: kept by step t")
    right.plot(process.alpha_bar.cpu(), color=BLUE, label="ᾱ: kept up to t")
    right.set(xlabel="time t", ylabel="share of signal", title="what is left of the picture")
    right.legend(loc="lower left", frameon=False, fontsize=8)
    return figure


def noise_images(
    process: DiffusionProcess, x0: Tensor, times: Sequence[int], seed: int
) -> tuple[list[Tensor], list[int]]:
    """Images x0 (N, 3, H, W) in [-1, 1] at each timestep under one noise, in [0, 1], and these."""
    times = validation.whole_numbers("times", times, 0, validation.schedule(process).num_steps - 1)
    x0, generator = x0.to(process.alpha_bar.device), torch.Generator()
    generator.manual_seed(validation.seed(seed))
    noise = torch.randn(x0.shape, generator=generator, device="cpu").to(x0.device)
    each_t = [torch.full((len(x0),), t, device=x0.device) for t in times]
    return [to_image_range(process.add_noise(x0, t, noise)[0]) for t in each_t], times


def plot_noising(
    process: DiffusionProcess, x0: Tensor, times: Sequence[int], *, seed: int = 0
) -> Figure:
    """One image x0 (3, H, W) in [-1, 1] at several timesteps of the forward process, same noise."""
    if validation.tensor("x0", x0).ndim != 3 or len(x0) != 3 or not (x0.abs() <= 1).all():
        found = f"x0 is {validation.format_value(x0)}"
        validation.refuse(found, "one image (3, H, W) in [-1, 1]", "Try data[0][0].")
    images, times = noise_images(process, x0[None], times, seed)
    titles = [f"t = {i}\nᾱ = {process.alpha_bar[i]:.3f}" for i in times]
    alt = f"one image sinking into noise at timesteps {', '.join(map(str, times))}"
    return show_images(torch.cat(images), titles, columns=len(times), size=1.1, alt=alt)


def plot_losses(
    losses: Sequence[float] | Tensor, *, reference: Sequence[float] | None = None, smooth: int = 50
) -> Figure:
    """The loss of each training step, raw and as a running mean over `smooth` of them.

    `reference` is a recorded run's losses, drawn behind in grey. Raises ValueError for no losses.
    """
    smooth, values = validation.whole("smooth", smooth), loss_values(losses)
    alt = f"the loss over {values.size} updates, from {values[0]:.3f} to {values[-1]:.3f}"
    figure, [[axis]] = new_figure(alt, size=(8, 3))
    if reference is not None:
        axis.plot(running_mean(reference, smooth), color=GREY, label="a recorded run")
    axis.plot(values, color=BLUE, alpha=0.25, linewidth=0.8, label="each update")
    axis.plot(running_mean(values, smooth), color=BLUE, label=f"mean of the last {smooth}")
    axis.set(xlabel="update", ylabel="loss", yscale="log")
    axis.legend(frameon=False)
    return figure


def loss_values(losses: Sequence[float] | Tensor) -> np.ndarray:
    """The losses as float32 (N,); raises ValueError unless they are a row of numbers."""
    try:
        values = torch.as_tensor(losses).float().cpu().numpy()
    except (TypeError, ValueError, RuntimeError):
        values = np.empty((0, 0))
    if values.ndim != 1 or not values.size:
        expected = "at least one number, as in state.losses"
        found = f"losses is {validation.format_value(losses)}"
        validation.refuse(found, expected, "Train an update first.")
    return values


def running_mean(values: Sequence[float] | np.ndarray, width: int) -> np.ndarray:
    """The mean of each value and the up to width - 1 before it; as long as the values."""
    total = np.cumsum(np.insert(np.asarray(values, dtype=np.float64), 0, 0.0))
    end = np.arange(1, len(total))
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def plot_denoising(frames: Sequence[Frame], *, image: int = 0, columns: int = 8) -> Figure:
    """One image on its way from noise: x_t above, the network's guess x̂₀ below.

    `frames` are `denoise`'s; `columns` of them, evenly chosen, are shown for image number `image`.
    """
    image = validation.whole("image", image, 0, len(validation.frames(frames)[0].xt) - 1)
    columns = min(validation.whole("columns", columns), len(frames))
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    shown = [frames[i] for i in chosen]
    x = torch.stack([f.xt[image] for f in shown] + [f.x0[image] for f in shown])
    titles = ["clean" if f.t < 0 else f"t = {f.t}" for f in shown] + [""] * len(shown)
    alt = f"sampling from t = {shown[0].t} to the clean image: the noisy image and the guess"
    rows = ["x_t", "guess x̂₀"]
    return show_images(to_image_range(x), titles, columns=columns, rows=rows, size=1.1, alt=alt)


def visualize_conditional_generation(
    model: Callable,
    process: DiffusionProcess,
    *,
    labels: Sequence[int] = tuple(range(len(CLASS_NAMES))),
    **options: Any,
) -> Figure:
    """One sample per class, each under its name; the options are the sampler's."""
    classes = validation.labels(labels, getattr(model, "null_class", None)).tolist()
    images = sample_conditional_images(model, process, classes, **options)
    names = [CLASS_NAMES[i] if i < len(CLASS_NAMES) else "no class" for i in classes]
    alt = f"one generated image for each of: {', '.join(names)}"
    return show_images(images, names, columns=min(len(names), 5), size=1.5, alt=alt)


def tile_images(images: Tensor, columns: int) -> np.ndarray:
    """Images (N, 3, H, W) in [0, 1] side by side: uint8 (rows * H, columns * W, 3).

    Places left over in the last row are white.
    """
    n, c, h, w = validation.images_in_unit_range(images).shape
    columns = validation.whole("columns", columns)
    rows = -(-n // columns)
    padded = torch.ones(rows * columns, c, h, w, device="cpu")
    padded[:n] = images.cpu()
    grid = padded.view(rows, columns, c, h, w).permute(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    return to_uint8(grid.reshape(rows * h, columns * w, c)).numpy()


def png_bytes(pixels: np.ndarray, scale: int = 1) -> bytes:
    """Pixels uint8 (H, W, 3) as a PNG, each of them `scale` x `scale` large."""
    return image_bytes(pixels, ".png", scale)


def image_bytes(pixels: np.ndarray, suffix: str, scale: int = 1) -> bytes:
    """Pixels uint8 (H, W, 3) as a file of one of FORMATS, each `scale` x `scale` large.

    No suffix means PNG. Raises ValueError for another one, and for an image that the format cannot
    hold.
    """
    suffix = validation.choice("the suffix", suffix.lower(), FORMATS) if suffix else ".png"
    image, file = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1)), io.BytesIO()
    options = {"quality": 95, "subsampling": 0, "lossless": True}  # the last is WebP's alone
    try:
        image.save(file, FORMATS[suffix], **options)
    except (OSError, ValueError, KeyError) as error:  # a side too long, a Pillow without WebP
        found = f"{image.width} x {image.height} pixels cannot be saved as {suffix} ({error})"
        raise ValueError(f"{found}; save them as .png.") from error
    return file.getvalue()


def figure_file(figure: Figure, suffix: str) -> bytes:
    """The figure as a file of the suffix's format, as in `image_bytes`."""
    pixels = np.asarray(Image.open(io.BytesIO(figure_bytes(figure))).convert("RGB"))
    return image_bytes(pixels, suffix)
