"""Pictures of all of it: the schedule, the noising, the loss, and what was drawn.

Home: notebook 07. Every function returns a matplotlib Figure with alternative text; none of them
shows or saves anything, and none needs pyplot, so nothing has to be closed.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cdiff_helpers.data import CLASS_NAMES, to_image_range
from cdiff_helpers.diffusion import (
    DiffusionProcess,
    check_is,
    check_number,
    check_whole,
    described,
)
from cdiff_helpers.sampling import Frame, check_labels, sample_conditional_images

# Okabe and Ito's palette, told apart by colour-blind readers; one colour for one thing
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"

PNG = {"format": "PNG"}
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
FORMATS = {
    "": PNG, ".png": PNG, ".jpg": JPEG, ".jpeg": JPEG,
    ".webp": {"format": "WEBP", "lossless": True},
}  # fmt: skip


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
    """A grid of pictures (N, 3, H, W) in [0, 1], row by row.

    `titles` names each picture, `rows` each row; `size` is a picture's side in inches. Raises
    ValueError for another shape or range.
    """
    check_for_eyes(images)
    columns = min(len(images), 10) if columns is None else columns
    check_grid(len(images), columns, size, titles=titles, rows=rows)
    count = -(-len(images) // columns)
    wide = 0.09 * max(map(len, rows)) + 0.1 if rows else 0.0  # room for the longest name
    names = ", ".join(filter(None, titles or rows or ["untitled"]))
    alt = alt or f"a grid of {len(images)} pictures: {names}"
    titled = sum(any(titles[i : i + columns]) for i in range(0, len(titles or ()), columns))
    high = count * (size + 0.03) + titled * 0.25
    figure, axes = new_figure(alt, count, columns, size=(columns * size * 1.03 + wide, high))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for i, (axis, image) in enumerate(zip(axes.flat, images)):
        axis.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        if titles:
            axis.set_title(titles[i], fontsize=min(9, 12 * size))  # names side by side
    for axis, name in zip(axes[:, 0], rows or ()):
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def plot_beta_schedule(process: DiffusionProcess) -> Figure:
    """The process's tables over t: β on a logarithmic scale, α and ᾱ on a linear one."""
    check_is(DiffusionProcess, process=process)
    first, last = process.betas[0], process.betas[-1]
    alt = f"beta goes from {first:.2g} to {last:.3f}, alpha is 1 - beta, alpha-bar falls to 0"
    figure, [[left, right]] = new_figure(alt, 1, 2, size=(9, 3))
    left.semilogy(process.betas.cpu(), color=ORANGE)
    left.set(xlabel="time t", ylabel="β: share of noise added", title="each step's noise")
    right.plot(process.alphas.cpu(), color=GREEN, label="α: kept by step t")
    right.plot(process.alpha_bar.cpu(), color=BLUE, label="ᾱ: kept up to t")
    right.set(xlabel="time t", ylabel="share of signal", title="what is left of the picture")
    right.legend(loc="lower left", frameon=False, fontsize=8)
    return figure


def plot_noising(
    process: DiffusionProcess, x0: Tensor, times: Sequence[int], *, seed: int = 0
) -> Figure:
    """One picture x0 (3, H, W) in [-1, 1] at several times of the forward process, same noise."""
    check_is(DiffusionProcess, process=process)
    check_noised(x0, times)
    t = torch.tensor(list(times), device=process.alpha_bar.device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x0.shape, generator=generator, device="cpu").to(t.device)
    batch = x0.to(t.device).expand(len(t), *x0.shape)
    xt, _ = process.add_noise(batch, t, noise.expand_as(batch))
    titles = [f"t = {i}\nᾱ = {process.alpha_bar[i]:.3f}" for i in times]
    alt = f"one picture sinking into noise at times {', '.join(map(str, times))}"
    return show_images(to_image_range(xt), titles, columns=len(t), size=1.1, alt=alt)


def plot_losses(
    losses: Sequence[float] | Tensor,
    *,
    reference: Sequence[float] | None = None,
    smooth: int = 50,
) -> Figure:
    """The loss of each update, raw and as a running mean over `smooth` of them.

    `reference` is a recorded run's losses, drawn behind in grey. Raises ValueError for no losses.
    """
    check_whole("smooth", smooth)
    losses = loss_values(losses)
    alt = f"the loss over {losses.size} updates, from {losses[0]:.3f} to {losses[-1]:.3f}"
    figure, [[axis]] = new_figure(alt, size=(8, 3))
    if reference is not None:
        axis.plot(running_mean(reference, smooth), color=GREY, label="a recorded run")
    axis.plot(losses, color=BLUE, alpha=0.25, linewidth=0.8, label="each update")
    axis.plot(running_mean(losses, smooth), color=BLUE, label=f"mean of the last {smooth}")
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
        told = described(losses) if values.ndim != 1 else "empty"
        raise ValueError(
            f"losses is {told}; expected at least one number, as in state.losses. Train an update "
            "first."
        )
    return values


def running_mean(values: Sequence[float], width: int) -> np.ndarray:
    """The mean of each value and the up to width - 1 before it; as long as the values."""
    total = np.cumsum(np.insert(np.asarray(values, dtype=np.float64), 0, 0.0))
    end = np.arange(1, len(total))
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def plot_denoising(frames: Sequence[Frame], *, image: int = 0, columns: int = 8) -> Figure:
    """One picture on its way from noise: x_t above, the network's guess x̂₀ below.

    `frames` are `denoise`'s; `columns` of them, evenly chosen, are shown for picture `image`.
    """
    check_frames(frames, image)
    chosen = np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)
    shown = [frames[i] for i in chosen]
    x = torch.stack([f.xt[image] for f in shown] + [f.x0[image] for f in shown])
    titles = ["clean" if f.t < 0 else f"t = {f.t}" for f in shown] + [""] * len(shown)
    alt = f"sampling from t = {shown[0].t} to the clean picture: the noisy picture and the guess"
    columns, rows = len(shown), ["x_t", "guess x̂₀"]
    return show_images(to_image_range(x), titles, columns=columns, rows=rows, size=1.1, alt=alt)


def visualize_conditional_generation(
    model: Callable,
    process: DiffusionProcess,
    *,
    labels: Sequence[int] = tuple(range(len(CLASS_NAMES))),
    **options,
) -> Figure:
    """One sample per class, each under its name; the options are the sampler's."""
    labels = check_labels(labels, model, process).tolist()
    images = sample_conditional_images(model, process, labels, **options)
    names = [CLASS_NAMES[i] if i < len(CLASS_NAMES) else "no class" for i in labels]
    alt = f"one generated picture for each of: {', '.join(names)}"
    return show_images(images, names, columns=min(len(names), 5), size=1.5, alt=alt)


def tile_images(images: Tensor, columns: int) -> np.ndarray:
    """Pictures (N, 3, H, W) in [0, 1] side by side: uint8 (rows * H, columns * W, 3).

    Places left over in the last row are white.
    """
    check_for_eyes(images)
    check_whole("columns", columns)
    n, c, h, w = images.shape
    rows = -(-n // columns)
    padded = torch.ones(rows * columns, c, h, w, device="cpu")
    padded[:n] = images.cpu()
    grid = padded.view(rows, columns, c, h, w).permute(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    return (grid.reshape(rows * h, columns * w, c) * 255).round().to(torch.uint8).numpy()


def png_bytes(pixels: np.ndarray, scale: int = 1) -> bytes:
    """Pixels uint8 (H, W, 3) as a PNG, each of them `scale` x `scale` large."""
    return image_bytes(pixels, ".png", scale)


def image_bytes(pixels: np.ndarray, suffix: str, scale: int = 1) -> bytes:
    """Pixels uint8 (H, W, 3) as a file of the suffix's format, each `scale` x `scale` large.

    The suffix is .png, .jpg, .jpeg or .webp; none is .png. Raises ValueError for another one, and
    for an image that the format cannot hold.
    """
    if suffix.lower() not in FORMATS:
        raise ValueError(f"the suffix is {suffix!r}; expected {', '.join(filter(None, FORMATS))}.")
    enlarged = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
    file = io.BytesIO()
    try:
        Image.fromarray(enlarged).save(file, **FORMATS[suffix.lower()])
    except (OSError, ValueError, KeyError) as error:  # a side too long, a Pillow without WebP
        height, width, _ = enlarged.shape
        raise ValueError(
            f"{width} x {height} pixels cannot be saved as {suffix} ({error}); save them as .png."
        ) from error
    return file.getvalue()


def figure_file(figure: Figure, suffix: str) -> bytes:
    """The figure as `figure_bytes` makes it, as a file of the suffix's format (`image_bytes`)."""
    png = figure_bytes(figure)
    if FORMATS.get(suffix.lower()) == PNG:
        return png
    return image_bytes(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), suffix)


def check_for_eyes(images: Tensor) -> None:
    """Raise ValueError unless these are pictures (N, 3, H, W) in [0, 1], at least one."""
    check_is(Tensor, "Try torch.as_tensor(…).", images=images)
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(
            f"images has shape {tuple(images.shape)}; expected (N, 3, H, W) with N at least 1. "
            "For a single image use image[None]."
        )
    low, high = float(images.min()), float(images.max())
    if not images.is_floating_point() or not 0 <= low <= high <= 1:
        raise ValueError(
            f"images has dtype {images.dtype} and lies in [{low:.3g}, {high:.3g}]; expected floats "
            "in [0, 1]. Use to_image_range(x) for the network's [-1, 1], images / 255 for uint8."
        )


def check_grid(count: int, columns: int, size: float, **names: Sequence[str] | None) -> None:
    """Raise ValueError unless `count` pictures make a grid, with a title each and a name a row."""
    check_whole("columns", columns)
    check_number("size", size)
    if size <= 0:
        raise ValueError(f"size is {size}; expected inches above 0, such as 1.0.")
    needed = {"titles": count, "rows": -(-count // columns)}
    for name, given in names.items():
        if given is not None and (isinstance(given, str) or len(given) != needed[name]):
            raise ValueError(f"{name} is {given!r}; expected a list of {needed[name]} words.")


def check_noised(x0: Tensor, times: Sequence[int]) -> None:
    """Raise ValueError unless x0 is one picture in [-1, 1], and there are times to show it at."""
    check_is(Tensor, "Try data[0][0].", x0=x0)
    if x0.ndim != 3 or x0.shape[0] != 3 or not x0.numel() or not -1 <= x0.min() <= x0.max() <= 1:
        raise ValueError(
            f"x0 is {described(x0)}; expected one image (3, H, W) in [-1, 1]. Try data[0][0]."
        )
    if not isinstance(times, Sequence | range) or not all(isinstance(t, int) for t in times):
        raise ValueError(f"times is {described(times)}; expected whole numbers, such as [0, 500].")
    if not len(times):
        raise ValueError("times is empty; expected at least one, such as [0, 500].")


def check_frames(frames: Sequence[Frame], image: int) -> None:
    """Raise ValueError unless these are denoise's frames, with a picture of that number."""
    if not isinstance(frames, Sequence) or not all(isinstance(f, Frame) for f in frames):
        raise ValueError(
            f"frames is {described(frames)}; expected a list of them: list(denoise(…))."
        )
    if not frames:
        raise ValueError("frames is empty; expected at least one: list(denoise(…)).")
    check_whole("image", image, 0)
    if image >= len(frames[0].xt):
        raise ValueError(f"image is {image}; expected below {len(frames[0].xt)}, their number.")
