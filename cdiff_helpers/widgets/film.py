"""A film: frames to scrub in the browser alone, without a kernel.

Home: notebook 07, used in 03 and 06.
"""

import base64
import hashlib
import html
import io
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from cdiff_helpers.data import to_image_range
from cdiff_helpers.diffusion import described
from cdiff_helpers.sampling import Frame
from cdiff_helpers.visualization import png_bytes, tile_images

MARKUP = Path(__file__).with_name("film.html")  # and script; its $names are filled in by `film`
GAP = 4  # white pixels between x_t and the guess
STILLS = 5  # frames that tell the story where no script runs
SHOWN, HIDDEN = "width: 23%; height: auto", "display: none"


class Film(HTML):
    """A film as it is stored in a notebook: HTML with a script, and a strip where neither lives.

    `data` is the HTML; `strip` a PNG of a few frames, `width` screen pixels wide; `alt` says what
    the film shows.
    """

    def __init__(self, data: str, strip: bytes, width: int, alt: str):
        super().__init__(data)
        self.strip, self.width, self.alt = strip, width, alt

    def __repr__(self) -> str:
        return f"<Film: {self.alt}>"

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        strip = base64.b64encode(self.strip).decode()
        shown = {"text/html": self.data, "image/png": strip, "text/plain": repr(self)}
        return shown, {"image/png": {"alt": self.alt, "width": self.width}}


def film(
    frames: Sequence[Frame] | Sequence[Tensor],
    words: Sequence[str] | None = None,
    *,
    columns: int = 4,
    alt: str = "pictures on their way, frame by frame",
    scale: int = 3,
    seconds: float = 4.0,
) -> Film:
    """Pictures to scrub in the browser alone: a slider, play and pause, and words for each frame.

    `frames` are `denoise`'s, shown as x_t beside the guess x̂₀, or tensors (N, 3, H, W) in [0, 1],
    `columns` pictures a row. Needs no kernel, so it works in exported pages, too; arrow keys move
    the focused slider and the space bar plays. `seconds` is how long playing takes, `scale` the
    screen pixels a side of each pixel. Raises ValueError for no frames, frames of different sizes,
    or another number of words.
    """
    if not isinstance(frames, Sequence) or not all(isinstance(f, Frame | Tensor) for f in frames):
        raise ValueError(
            f"frames is {described(frames)}; expected a list of denoise's, or tensors."
        )
    pictures = [render_frame(frame, columns) for frame in frames]
    words = [frame_words(frame, i) for i, frame in enumerate(frames)] if words is None else words
    check_film(pictures, words)
    rows, wide, _ = pictures[0].shape
    some = {round(i) for i in np.linspace(0, len(pictures) - 1, STILLS)}
    styles = [SHOWN if i in some else HIDDEN for i in range(len(pictures))]
    styles[0] = f"width: {wide * scale}px; max-width: 100%; height: auto; display: block"
    images = [image(*each) for each in zip(pictures, words, styles)]
    filled = {
        "id": "film-" + hashlib.sha256("".join(images).encode()).hexdigest()[:12],
        "first": images[0],
        "others": "".join(images[1:]),
        "words": html.escape(words[0]),
        "alt": html.escape(alt),
        "last": len(pictures) - 1,
        "columns": wide,
        "rows": rows,
        "width": wide * scale,
        "pause": round(1000 * seconds / max(1, len(pictures) - 1)),
    }
    still = sorted(some)[:: 2 if len(some) > 2 else 1]
    strip = strip_of([pictures[i] for i in still])
    markup = Template(MARKUP.read_text(encoding="utf-8")).substitute(filled)
    return Film(markup, png_bytes(strip), strip.shape[1] * scale, alt)


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


def image(pixels: np.ndarray, words: str, style: str) -> str:
    """An <img> that holds the pixels, as lossless WebP: a lossy one would smooth the noise away."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="WEBP", lossless=True, quality=100, method=6)
    source = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(words)}" src="{source}" style="{style}">'


def strip_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The pictures in one, below each other if they are wide and side by side if not."""
    high, wide, _ = pictures[0].shape
    axis = 0 if wide > 3 * high else 1
    between = np.full((GAP, wide, 3) if axis == 0 else (high, GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (between, picture)]
    return np.concatenate(parts[1:], axis=axis)


def check_film(pictures: Sequence[np.ndarray], words: Sequence[str]) -> None:
    """Raise ValueError unless there are frames of one size, and words for each."""
    if not pictures:
        raise ValueError("the film has no frames; expected at least one, such as denoise's.")
    if len({picture.shape for picture in pictures}) > 1:
        sizes = sorted({f"{p.shape[1]} x {p.shape[0]}" for p in pictures})
        raise ValueError(f"the frames are of sizes {', '.join(sizes)}; expected one size.")
    if len(words) != len(pictures):
        raise ValueError(f"there are {len(words)} words for {len(pictures)} frames; expected each.")
