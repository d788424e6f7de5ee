"""Curves as an SVG image: a string, renewed in a millisecond where a figure takes a hundred.

Home: notebook 07.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

LEFT, TOP, RIGHT, BOTTOM = 48, 8, 8, 32  # pixels around the plot, for the words


@dataclass(frozen=True)
class Curve:
    """A line through points of the unit square, (0, 0) at the lower left, and how it is drawn.

    `dashes` and `opacity` are SVG's; `marker` is a point to be dotted, and `name` stands below.
    """

    points: Sequence[tuple[float, float]]
    color: str
    name: str = ""
    dashes: str = ""
    opacity: float = 1.0
    marker: tuple[float, float] | None = None


def svg_chart(
    curves: Sequence[Curve],
    said: str,
    *,
    x_ends: tuple[str, str],
    y_ends: tuple[str, str],
    width: int = 560,
    height: int = 190,
) -> str:
    """The curves in one pair of axes whose ends are named: an SVG image of that many pixels.

    `said` is its alternative text.
    """
    right, bottom = width - RIGHT, height - BOTTOM

    def place(point: tuple[float, float]) -> tuple[str, str]:
        x, y = LEFT + (right - LEFT) * point[0], bottom - (bottom - TOP) * point[1]
        return f"{x:.1f}", f"{y:.1f}"

    drawn, names = [], []
    for curve in curves:
        points = " ".join(",".join(place(point)) for point in curve.points)
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{curve.color}" stroke-width="2" '
            f'stroke-dasharray="{curve.dashes}" stroke-opacity="{curve.opacity}"/>'
        )
        if curve.marker:
            x, y = place(curve.marker)
            drawn.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{curve.color}"/>')
        if curve.name:
            mark = "╍" if curve.dashes else "━"
            names.append(f'<tspan dx="12" fill="{curve.color}">{mark}</tspan> {curve.name}')
    return (
        f'<svg role="img" aria-label="{html.escape(said)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="max-width: 100%" font-size="11" '
        f'fill="currentColor"><path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" '
        f'stroke="currentColor"/>{"".join(drawn)}'
        f'<text x="2" y="{TOP + 9}">{y_ends[1]}</text><text x="2" y="{bottom}">{y_ends[0]}</text>'
        f'<text x="{LEFT}" y="{height - 18}">{x_ends[0]}</text>'
        f'<text x="{right}" y="{height - 18}" text-anchor="end">{x_ends[1]}</text>'
        f'<text x="{LEFT - 12}" y="{height - 3}">{"".join(names)}</text></svg>'
    )
