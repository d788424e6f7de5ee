"""A film: frames to scrub in the browser alone, and what makes them. Home: notebook 07."""

import base64
import hashlib
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame, sample_conditional_images
from cdiff_helpers.visualization import noise_images, png_bytes, tile_images
from cdiff_helpers.widgets.charts import join

MARKUP = Path(__file__).with_name("film.html")  # and script; its $names are filled in by `film`
STILLS = 5  # frames that tell the story where no script runs, each in this style
STILL, HIDDEN = "width: 23%; height: auto", "display: none"


@dataclass(repr=False)
class Film:
    """A film as a notebook stores it: HTML with a script, and a strip where neither lives."""

    data: str
    strip: bytes  # a PNG of a few frames
    width: int  # of the strip, in screen pixels
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        strip = base64.b64encode(self.strip).decode()
        bundle = {"text/html": self.data, "image/png": strip, "text/plain": f"<Film: {self.alt}>"}
        return bundle, {"image/png": {"alt": self.alt, "width": self.width}}


def film(
    frames: Sequence[Frame] | Sequence[Tensor],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 4,
    alt: str = "images on their way, frame by frame",
    scale: int = 3,
    seconds: float = 4.0,
) -> Film:
    """Images to scrub in the browser alone: a slider, play and pause, and a caption per frame.

    `frames` are `denoise`'s, shown as x_t beside the guess x̂₀, or tensors (N, 3, H, W) in [0, 1],
    `columns` images per row. Arrow keys move the focused slider and the space bar plays, in
    exported pages, too, for `seconds`. `scale` is the screen pixels a side of each pixel.
    """
    columns, scale = validation.whole("columns", columns), validation.whole("scale", scale)
    seconds = validation.number("seconds", seconds, 0)
    listed = isinstance(frames, list | tuple) and len(frames) > 0
    if not listed or not all(isinstance(frame, Tensor) for frame in frames):
        validation.frames(frames)
    images, defaults = zip(*(show_frame(frame, columns, i) for i, frame in enumerate(frames)))
    captions = validation.names("captions", captions, len(images)) or defaults
    if len(sizes := sorted({f"{image.shape[1]} x {image.shape[0]}" for image in images})) > 1:
        raise ValueError(f"the frames are of sizes {', '.join(sizes)}; expected one size.")
    height, width, _ = images[0].shape
    stills = np.unique(np.linspace(0, len(images) - 1, STILLS).round().astype(int)).tolist()
    styles = [STILL if i in stills else HIDDEN for i in range(len(images))]
    styles[0] = f"width: {width * scale}px; max-width: 100%; height: auto; display: block"
    first, *others = map(img_tag, images, captions, styles)
    markup = Template(MARKUP.read_text(encoding="utf-8")).substitute(
        id="film-" + hashlib.sha256("".join([first, *others]).encode()).hexdigest()[:12],
        first=first,
        others="".join(others),
        caption=html.escape(captions[0]),
        alt=html.escape(alt),
        width=width * scale,
        pause=round(1000 * seconds / max(1, len(others))),
    )
    few = stills[:: 2 if len(stills) > 2 else 1]
    strip = join([images[i] for i in few], axis=0 if width > 3 * height else 1)
    return Film(markup, png_bytes(strip), strip.shape[1] * scale, alt)


def show_frame(frame: Any, columns: int, i: int) -> tuple[np.ndarray, str]:
    """Frame i as pixels, uint8 (H, W, 3), and a caption; of denoise's, x_t and x̂₀ side by side."""
    if isinstance(frame, Tensor):
        return tile_images(frame, min(columns, len(frame))), f"frame {i}"
    columns = min(columns, len(frame.xt))
    tiles = [tile_images(to_image_range(x), columns) for x in (frame.xt, frame.x0)]
    caption = f"t = {frame.t}: left the noisy images x_t, right the network's guess x̂₀"
    return join(tiles, 1), caption if frame.t >= 0 else "clean: the finished images"


def img_tag(pixels: np.ndarray, caption: str, style: str) -> str:
    """An <img> that holds the pixels, as lossless WebP: a lossy one would smooth the noise away."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, quality=100, method=6)
    source = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(caption)}" src="{source}" style="{style}">'


def noising_frames(
    process: DiffusionProcess, x0: Tensor, times: Sequence[int], *, seed: int = 0
) -> tuple[list[Tensor], list[str]]:
    """Images x0 (N, 3, H, W) in [-1, 1] at each timestep, under one noise: frames, captions."""
    frames, times = noise_images(process, x0, times, seed)
    return frames, [f"t = {t}: {mixture(process, t)}" for t in times]


def sampling_frames(
    process: DiffusionProcess, frames: Sequence[Frame], *, count: int = 16
) -> tuple[list[Frame], list[str]]:
    """`count` of denoise's frames, evenly spaced, both ends among them: frames, captions."""
    count = min(validation.whole("count", count), len(validation.frames(frames)))
    chosen = [frames[i] for i in torch.linspace(0, len(frames) - 1, count).round().int().tolist()]
    return chosen, [
        f"t = {frame.t}: left x_t, {mixture(process, frame.t)}; right the network's guess x̂₀"
        if frame.t >= 0
        else "clean: the finished images, on both sides"
        for frame in chosen
    ]


def guidance_frames(
    model: Callable,
    process: DiffusionProcess,
    labels: Sequence[int],
    scales: Sequence[float],
    **options,
) -> tuple[list[Tensor], list[str]]:
    """The labels' images at each guidance scale, from the same noise: frames, captions.

    The options are the sampler's.
    """
    validation.whole("the number of scales", len(scales))
    frames = [
        sample_conditional_images(model, process, labels, guidance_scale=scale, **options)
        for scale in scales
    ]
    meaning = {0.0: ": the class has no say", 1.0: ": the plain conditional network"}
    return frames, [f"guidance scale {scale:g}{meaning.get(scale, '')}" for scale in scales]


def mixture(process: DiffusionProcess, t: int) -> str:
    """What x_t is made of at timestep t, in words with numbers."""
    alpha_bar = float(process.alpha_bar[t])
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    return f"ᾱ = {alpha_bar:.3f}, so {signal:.2f} × the image + {noise:.2f} × the noise"
