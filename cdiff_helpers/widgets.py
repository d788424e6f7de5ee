"""Sliders: a picture that follows its controls.

Home: notebook 07. Each widget is one pure function that renders PNG bytes from plain values, and
ipywidgets controls around it; the picture is a `widgets.Image`, which neither flashes nor hangs.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from cdiff_helpers.data import CLASS_NAMES, ImageSet, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame, sample_conditional_images
from cdiff_helpers.visualization import png_bytes, tile_images

FILM = Path(__file__).with_name("film.html")  # markup and script; $names are filled in by `film`
GAP = 4  # white pixels between x_t and the guess
WIDE = {"description_width": "8em"}
ENLARGED = 5  # screen pixels a side of each picture's pixel


def film(
    frames: Sequence[Frame] | Sequence[Tensor],
    words: Sequence[str] | None = None,
    *,
    columns: int = 4,
    alt: str = "pictures on their way, frame by frame",
    scale: int = 3,
    seconds: float = 4.0,
) -> HTML:
    """Pictures to scrub in the browser alone: a slider, play and pause, and words for each frame.

    `frames` are `denoise`'s, shown as x_t beside the guess x̂₀, or tensors (N, 3, H, W) in [0, 1],
    `columns` pictures a row. Needs no kernel, so it works in exported pages, too; arrow keys move
    the focused slider and the space bar plays. `seconds` is how long playing takes, `scale` the
    screen pixels a side of each pixel. Raises ValueError for no frames, frames of different sizes,
    or another number of words.
    """
    pictures = [render_frame(frame, columns) for frame in frames]
    words = [frame_words(frame, i) for i, frame in enumerate(frames)] if words is None else words
    check_film(pictures, words)
    encoded = [{"webp": webp(p), "words": w} for p, w in zip(pictures, words)]
    rows, wide, _ = pictures[0].shape
    filled = {
        "id": "film-" + hashlib.sha256(json.dumps(encoded).encode()).hexdigest()[:12],
        "frames": json.dumps(encoded).replace("</", "<\\/"),  # no word may end the script
        "first": encoded[0]["webp"],
        "words": html.escape(words[0]),
        "alt": html.escape(alt),
        "label": html.escape(f"frame of: {alt}"),
        "last": len(pictures) - 1,
        "columns": wide,
        "rows": rows,
        "width": wide * scale,
        "height": rows * scale,
        "pause": round(1000 * seconds / max(1, len(pictures) - 1)),
    }
    return HTML(Template(FILM.read_text(encoding="utf-8")).substitute(filled))


def render_frame(frame: Frame | Tensor, columns: int) -> np.ndarray:
    """A film's frame as pixels, uint8 (H, W, 3): a denoise Frame's x_t and x̂₀ side by side."""
    if not isinstance(frame, Frame):
        return tile_images(frame, min(columns, len(frame)))
    columns = min(columns, len(frame.xt))
    xt, x0 = (tile_images(to_image_range(x), columns) for x in (frame.xt, frame.x0))
    return np.concatenate([xt, np.full((len(xt), GAP, 3), 255, np.uint8), x0], axis=1)


def frame_words(frame: Frame | Tensor, i: int) -> str:
    """What stands below a film's frame where nothing else is said."""
    if not isinstance(frame, Frame):
        return f"frame {i}"
    if frame.t < 0:
        return "clean: the finished pictures"
    return f"t = {frame.t}: left the noisy pictures x_t, right the network's guess x̂₀"


def webp(pixels: np.ndarray) -> str:
    """Pixels as a lossless WebP file in base64: lossy ones would smooth the noise away."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="WEBP", lossless=True)
    return base64.b64encode(file.getvalue()).decode()


def check_film(pictures: Sequence[np.ndarray], words: Sequence[str]) -> None:
    """Raise ValueError unless there are frames of one size, and words for each."""
    if not pictures:
        raise ValueError("the film has no frames; expected at least one, such as denoise's.")
    if len({picture.shape for picture in pictures}) > 1:
        sizes = sorted({f"{p.shape[1]} x {p.shape[0]}" for p in pictures})
        raise ValueError(f"the frames are of sizes {', '.join(sizes)}; expected one size.")
    if len(words) != len(pictures):
        raise ValueError(f"there are {len(words)} words for {len(pictures)} frames; expected each.")


def render_noising(process: DiffusionProcess, x0: Tensor, t: int, seed: int = 0) -> bytes:
    """x0, its noisy version x_t and the noise, side by side: PNG bytes. x0: (3, H, W)."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    xt, noise = process.add_noise(x0[None], torch.tensor([t]), noise[None])
    row = torch.cat([x0[None], xt, noise / 2])  # half: noise reaches beyond ±1 often
    return png_bytes(tile_images(to_image_range(row), columns=3), ENLARGED)


def noising_slider(process: DiffusionProcess, data: ImageSet, *, seed: int = 0) -> widgets.Widget:
    """Pick a picture and a time; see x0, x_t and the noise, and ᾱ in numbers."""
    last = process.num_steps - 1
    picture = widgets.IntSlider(0, 0, min(len(data), 100) - 1, description="picture", style=WIDE)
    time = widgets.IntSlider(last // 4, 0, last, description="time t", style=WIDE)

    def show(picture: int, time: int) -> tuple[bytes, str]:
        x0, label = data[picture]
        kept = float(process.alpha_bar[time])
        words = (
            f"{data.classes[label]} at t = {time}: ᾱ = {kept:.4f}, so x_t is {kept**0.5:.3f} × "
            f"the picture + {(1 - kept) ** 0.5:.3f} × the noise"
        )
        return render_noising(process, x0, time, seed), words

    alt = "left: the clean picture; middle: the picture with noise; right: the noise"
    return followed(show, {"picture": picture, "time": time}, alt)


def render_samples(
    model: Callable, process: DiffusionProcess, label: int, *, count: int = 4, **options
) -> bytes:
    """`count` pictures of one class, side by side: PNG bytes. The options are the sampler's."""
    images = sample_conditional_images(model, process, [label] * count, **options)
    return png_bytes(tile_images(images, columns=count), ENLARGED)


def class_picker(
    model: Callable,
    process: DiffusionProcess,
    *,
    count: int = 4,
    num_steps: int = 20,
    solver: str = "ddim",
) -> widgets.Widget:
    """Pick a class, a seed and a guidance scale; see `count` pictures drawn for them."""
    names = [(name, label) for label, name in enumerate(CLASS_NAMES)]
    controls = {
        "label": widgets.Dropdown(options=names, value=3, description="class", style=WIDE),
        "seed": widgets.IntSlider(0, 0, 99, description="seed", style=WIDE),
        "guidance_scale": widgets.FloatSlider(
            1.5, min=0, max=5, step=0.5, description="guidance scale", style=WIDE
        ),
    }
    for slider in controls.values():
        slider.continuous_update = False  # draw when the handle is let go, not on its way

    def show(label: int, **options) -> tuple[bytes, str]:
        png = render_samples(
            model, process, label, count=count, num_steps=num_steps, solver=solver, **options
        )
        return png, f"{count} × {CLASS_NAMES[label]}, {num_steps} steps of {solver}"

    return followed(show, controls, alt=f"{count} generated pictures of the picked class")


def followed(show: Callable, controls: dict[str, widgets.Widget], alt: str) -> widgets.Widget:
    """A box of controls over the picture and words that show(**values) returns, kept up to date.

    `alt` says below the picture what it shows. What goes wrong inside `show` appears in the words.
    """
    layout = widgets.Layout(max_width="100%", align_self="flex-start")  # neither cut nor stretched
    image, words = widgets.Image(format="png", layout=layout), widgets.HTML()

    def refresh(_change=None) -> None:
        try:
            image.value, words.value = show(**{k: c.value for k, c in controls.items()})
        except Exception as error:  # a callback's error would vanish in the kernel's log
            words.value = f"<b>This could not be drawn:</b> {error}"

    for control in controls.values():
        control.observe(refresh, names="value")
    refresh()
    return widgets.VBox([*controls.values(), image, widgets.Label(alt), words])
