"""A film: frames to scrub in the browser alone, without a kernel.

Home: notebook 07.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from cdiff_helpers.data import to_image_range
from cdiff_helpers.sampling import Frame
from cdiff_helpers.visualization import tile_images

MARKUP = Path(__file__).with_name("film.html")  # and script; its $names are filled in by `film`
GAP = 4  # white pixels between x_t and the guess


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
    return HTML(Template(MARKUP.read_text(encoding="utf-8")).substitute(filled))


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
