"""Captions below images, inside the image: a still of it says what it shows. Home: notebook 07."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cdiff_helpers.visualization import png_bytes

# Matplotlib's own font has the course's letters: x̂₀, ε̂, μ̃. Pillow 10.0 takes no Path
FONT = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 11)
LINE = 16  # pixels from one line of a caption to the next
MARGIN = 4  # white pixels between the enlarged columns


def captioned(pixels: np.ndarray, captions: Sequence[str], scale: int) -> bytes:
    """Pixels uint8 (H, W, 3), enlarged, with a caption below each of len(captions) columns: PNG.

    A caption may have several lines; W is a multiple of the number of captions.
    """
    columns = np.split(pixels.repeat(scale, axis=0).repeat(scale, axis=1), len(captions), axis=1)
    height, width, _ = columns[0].shape
    lines = max(caption.count("\n") + 1 for caption in captions)
    size = (len(columns) * (width + MARGIN) - MARGIN, height + lines * LINE + LINE // 2)
    card = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(card)
    for i, (column, caption) in enumerate(zip(columns, captions)):
        left = i * (width + MARGIN)
        card.paste(Image.fromarray(column), (left, 0))
        for k, line in enumerate(caption.split("\n")):
            center = (left + width / 2, height + LINE // 4 + k * LINE)
            draw.text(center, line, "black", FONT, anchor="ma")
    return png_bytes(np.asarray(card))
