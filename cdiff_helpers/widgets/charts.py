"""Images under captions as a PNG, and curves as an SVG: made in milliseconds. Home: notebook 07.

A slider that is dragged and a training run both wait for them; a figure takes a hundred.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cdiff_helpers.visualization import png_bytes

# Matplotlib's own font has the course's letters: x̂₀, ε̂, μ̃. Pillow 10.0 takes no Path
FONT = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 11)
LINE = 16  # pixels from one line of a caption to the next
GAP = 4  # white pixels between images

WIDTH, HEIGHT = 560, 190  # of the image, in pixels
LEFT, TOP, RIGHT, BOTTOM = 48, 8, 552, 158  # of the plot in it
POINTS = 240  # of a curve at most: more than the eye tells apart


def join(images: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """The images in one, along an axis, with GAP white pixels in between."""
    margin = [(GAP, 0) if i == axis else (0, 0) for i in range(3)]
    rest = [np.pad(image, margin, constant_values=255) for image in images[1:]]
    return np.concatenate([images[0], *rest], axis=axis)


def captioned(pixels: np.ndarray, captions: Sequence[str], scale: int) -> bytes:
    """Pixels uint8 (H, W, 3), enlarged, with a caption below each of len(captions) columns: PNG.

    A caption may have several lines; W is a multiple of the number of captions.
    """
    columns = np.split(pixels.repeat(scale, axis=0).repeat(scale, axis=1), len(captions), axis=1)
    height, width, _ = columns[0].shape
    lines = max(caption.count("\n") + 1 for caption in captions)
    below = ((0, lines * LINE + LINE // 2), (0, 0), (0, 0))
    card = Image.fromarray(np.pad(join(columns, axis=1), below, constant_values=255))
    for i, caption in enumerate(captions):
        for k, line in enumerate(caption.split("\n")):
            center = (i * (width + GAP) + width / 2, height + LINE // 4 + k * LINE)
            ImageDraw.Draw(card).text(center, line, "black", FONT, anchor="ma")
    return png_bytes(np.asarray(card))


@dataclass(frozen=True)
class Curve:
    """Heights from 0 to 1 over their indices, dotted at `marker`; the style is SVG's."""

    heights: np.ndarray
    color: str
    name: str = ""
    dashes: str = ""
    opacity: float = 1.0
    marker: int | None = None


def svg_chart(
    curves: Sequence[Curve], alt: str, last: int, *, x: tuple[str, str], y: tuple[str, str]
) -> str:
    """The curves over 0 … last as SVG; `alt` describes them, `x` and `y` name the axes' ends."""
    drawn, legend = [], []
    for curve in curves:
        right = LEFT + (RIGHT - LEFT) * np.arange(len(curve.heights)) / last
        down = BOTTOM - (BOTTOM - TOP) * curve.heights
        few = np.unique(np.linspace(0, len(down) - 1, min(POINTS, len(down))).astype(int))
        few = few[np.isfinite(down[few])]
        points = " ".join(map("{:.1f},{:.1f}".format, right[few].tolist(), down[few].tolist()))
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{curve.color}" stroke-width="2" '
            f'stroke-dasharray="{curve.dashes}" stroke-opacity="{curve.opacity}"/>'
        )
        if curve.marker is not None:
            center = f'cx="{right[curve.marker]:.1f}" cy="{down[curve.marker]:.1f}"'
            drawn.append(f'<circle {center} r="5" fill="{curve.color}"/>')
        if curve.name:
            line = "╍" if curve.dashes else "━"
            legend.append(f'<tspan dx="12" fill="{curve.color}">{line}</tspan> ')
            legend.append(html.escape(curve.name))
    alt, x0, x1, y0, y1 = map(html.escape, (alt, *x, *y))
    return (
        f'<svg role="img" aria-label="{alt}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width: 100%" font-size="11" '
        f'fill="currentColor"><path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" '
        f'stroke="currentColor"/>{"".join(drawn)}'
        f'<text x="2" y="{TOP + 9}">{y1}</text><text x="2" y="{BOTTOM}">{y0}</text>'
        f'<text x="{LEFT}" y="172">{x0}</text><text x="{RIGHT}" y="172" text-anchor="end">{x1}'
        f'</text><text x="36" y="187">{"".join(legend)}</text></svg>'
    )
