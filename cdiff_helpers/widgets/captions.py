"""Words under pictures, inside the picture: a still of it says what it shows.

Home: notebook 07.
"""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 11  # of the letters, in pixels
LINE = 16  # from line to line
GAP = 4  # white pixels between columns


@lru_cache
def letters() -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which has the course's letters: x̂₀, ε̂, μ̃."""
    font = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(str(font), SIZE)  # Pillow 10.0 takes no Path


def captioned(pixels: np.ndarray, captions: Sequence[str], scale: int) -> bytes:
    """Pixels uint8 (H, W, 3), enlarged, with a caption under each of len(captions) columns: PNG.

    A caption may have several lines; W is a multiple of their number.
    """
    columns = np.split(pixels, len(captions), axis=1)
    high, wide = scale * columns[0].shape[0], scale * columns[0].shape[1]
    lines = max(caption.count("\n") + 1 for caption in captions)
    size = (len(columns) * (wide + GAP) - GAP, high + lines * LINE + LINE // 2)
    card = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(card)
    for i, (column, caption) in enumerate(zip(columns, captions)):
        enlarged = Image.fromarray(column).resize((wide, high), Image.Resampling.NEAREST)
        card.paste(enlarged, (i * (wide + GAP), 0))
        for k, line in enumerate(caption.split("\n")):
            place = (i * (wide + GAP) + wide / 2, high + LINE // 4 + k * LINE)
            draw.text(place, line, "black", letters(), anchor="ma")
    file = io.BytesIO()
    card.save(file, format="PNG")
    return file.getvalue()
