"""Draw what depends on what in the course: python tools/concept_map.py

One table, IDEAS, says for each idea its notebook and the ideas that it builds on; NEEDED_FOR says
which ideas an exercise asks for. The picture is `images/concept_map.png`; it carries the digest of
the table that it was made from, and a test asserts that the table is still the same.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

HOUSE = Path(__file__).resolve().parent.parent
PICTURE = HOUSE / "images" / "concept_map.png"

QUESTIONS = {  # of each notebook, top to bottom
    "01": "Libraries and GPU",
    "02": "Dataset",
    "03": "Diffusion process",
    "04": "Conditional U-Net",
    "05": "Training loop",
    "06": "Conditional sampling",
    "07": "Visualization",
    "08": "Execution",
}


@dataclass(frozen=True)
class Idea:
    """One idea: its words, its notebook, its place there, and the names of what it builds on."""

    words: str
    notebook: str
    column: int  # in the picture, from the left
    needs: tuple[str, ...] = ()
    row: int = 0  # below the notebook's first


IDEAS = {
    "device": Idea("device\nand preset", "01", 0),
    "seeds": Idea("seeds and\ngenerators", "01", 1),
    "batches": Idea("batches in\na seeded order", "02", 1, ("labels", "seeds")),
    "labels": Idea("pictures\nand labels", "02", 2),
    "range": Idea("from bytes\nto [-1, 1]", "02", 3, ("labels",)),
    "schedule": Idea("schedule ᾱ", "03", 2),
    "jump": Idea("the jump\nto xₜ", "03", 3, ("schedule", "range")),
    "guess": Idea("the guess x̂₀", "03", 4, ("jump",)),
    "posterior": Idea("the posterior,\none step back", "03", 5, ("guess",)),
    "null": Idea("class vectors,\n∅ the last", "04", 1, ("labels",)),
    "waves": Idea("time as waves", "04", 2),
    "unet": Idea("conditional\nU-Net", "04", 2, ("waves", "null"), 1),
    "velocity": Idea("velocity\ninside", "04", 3, ("jump", "unet"), 1),
    "drop": Idea("labels\nleft out", "05", 1, ("null",)),
    "loss": Idea("the noise's\nerror", "05", 3, ("velocity",)),
    "ema": Idea("averaged\nweights", "05", 4),
    "update": Idea("one update", "05", 2, ("loss", "drop", "ema"), 1),
    "loop": Idea("loop and\ncheckpoint", "05", 0, ("update", "batches", "device"), 1),
    "guidance": Idea("guidance", "06", 1, ("drop",)),
    "start": Idea("picture i from\nseed + i", "06", 2, ("seeds",)),
    "ddim": Idea("DDIM step", "06", 4, ("ddpm",)),
    "ddpm": Idea("DDPM step", "06", 5, ("posterior",)),
    "sampler": Idea("the sampler", "06", 2, ("start", "ddim", "guidance", "ema"), 1),
    "dpm": Idea("second-order\nstep", "06", 4, ("ddim",), 1),
    "spread": Idea("mean and\nspread", "07", 1, ("sampler",)),
    "frames": Idea("the guess\non its way", "07", 2, ("sampler",)),
    "curves": Idea("curves that\ndo not mislead", "07", 3, ("loss",)),
    "grids": Idea("grids for eyes", "07", 4, ("range",)),
    "live": Idea("a live picture", "07", 5, ("grids",)),
    "resume": Idea("stop and\nresume", "08", 0, ("loop",)),
    "command": Idea("one command", "08", 1, ("loop", "sampler")),
    "distance": Idea("distance of\ntwo sets", "08", 2, ("agreement", "spread")),
    "agreement": Idea("agreement,\nits interval", "08", 3, ("sampler",)),
    "final": Idea("the final task", "08", 2, ("command", "agreement"), 1),
}

LANES = {  # long ways run down between two columns; the others are straight lines
    ("batches", "loop"): 0.5,
    ("seeds", "start"): 1.5,
    ("range", "grids"): 3.5,
    ("loop", "command"): 0.5,
    ("sampler", "command"): 1.5,
    ("sampler", "agreement"): 2.5,
    ("ema", "sampler"): 3.3,
}

# What an exercise asks for; all of it in its own notebook or an earlier one.
NEEDED_FOR = {
    "standardise": ("range",),
    "balanced_places": ("labels",),
    "flip_some": ("batches", "seeds"),
    "batches_and_left_out": ("batches",),
    "linear_alpha_bar": ("schedule",),
    "time_of_snr": ("schedule", "jump"),
    "noisy_at": ("jump",),
    "variance_half_way": ("jump",),
    "fourier_features": ("waves",),
    "modulate": ("waves", "null"),
    "parameters_of_conv": ("unet",),
    "walk": ("unet",),
    "x0_loss": ("loss", "guess"),
    "dropped": ("drop",),
    "half_life": ("ema",),
    "accumulate": ("update",),
    "update_order": ("update",),
    "mixed_variance": ("posterior", "ddpm"),
    "rescaled": ("guidance",),
    "away_from": ("guidance",),
    "times": ("sampler",),
    "ancestral": ("ddpm", "sampler"),
    "two_step": ("ddim", "dpm"),
    "pictures_through_the_network": ("guidance", "sampler"),
    "bordered_grid": ("grids",),
    "as_bytes": ("range", "grids"),
    "exponential_mean": ("curves",),
    "live_picture": ("live",),
    "spreads": ("spread",),
    "pictures_needed": ("agreement",),
    "difference_interval": ("agreement",),
    "energy_distance": ("distance",),
    "draw_all": ("start", "sampler", "command"),
    "save_whole": ("resume",),
    "final_task": ("final",),
}


def digest() -> str:
    """Of the table, as the picture's file carries it."""
    table = {name: asdict(idea) for name, idea in IDEAS.items()}
    lanes = [[*pair, lane] for pair, lane in LANES.items()]
    return hashlib.sha256(json.dumps([QUESTIONS, table, lanes]).encode()).hexdigest()


BLUE, GREY, INK = "#0072B2", "#8C8C8C", "#222222"  # told apart by colour-blind readers
WIDTH, HEIGHT = 0.84, 0.62  # of a box; a column and a row are 1 apart
MARGIN = 0.24  # above and below a notebook's rows
LEFT = -1.5  # where the notebooks' names begin


def heights() -> dict[str, tuple[float, int]]:
    """Each notebook's top in the picture, and its number of rows."""
    top, found = 0.0, {}
    for notebook in QUESTIONS:
        rows = 1 + max(idea.row for idea in IDEAS.values() if idea.notebook == notebook)
        found[notebook] = (top, rows)
        top -= rows + 2 * MARGIN
    return found


def centre(name: str) -> tuple[float, float]:
    """Where an idea's box has its middle."""
    idea = IDEAS[name]
    top, _ = heights()[idea.notebook]
    return idea.column, top - MARGIN - idea.row - 0.5


def draw_bands(axis: Axes) -> None:
    """Each notebook's name beside its band."""
    for number, (notebook, (top, rows)) in enumerate(heights().items()):
        high = rows + 2 * MARGIN
        shade = "#F1F4F6" if number % 2 else "white"
        axis.add_patch(Rectangle((LEFT, top - high), 7.1, high, color=shade, zorder=0))
        words = f"{notebook}\n" + QUESTIONS[notebook].replace(" ", "\n", 1)
        axis.text(LEFT + 0.08, top - high / 2, words, va="center", fontsize=8.5, color=INK)


def draw_box(axis: Axes, name: str) -> None:
    """An idea's box with its words."""
    x, y = centre(name)
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor="white",
        edgecolor=INK,
        linewidth=0.9,
        zorder=3,
    )
    axis.add_patch(box)
    axis.text(x, y, IDEAS[name].words, ha="center", va="center", fontsize=8.5, color=INK, zorder=4)


def corners(source: str, target: str) -> list[tuple[float, float]]:
    """The way of an arrow: straight, or down a lane between two columns."""
    (x1, y1), (x2, y2) = centre(source), centre(target)
    if y1 == y2:  # side by side
        side = WIDTH / 2 if x2 > x1 else -WIDTH / 2
        return [(x1 + side, y1), (x2 - side, y2)]
    lane = LANES.get((source, target))
    if lane is None:
        nudge = 0.22 * max(-1, min(1, x2 - x1))  # leave towards it, arrive from there
        return [(x1 + nudge, y1 - HEIGHT / 2), (x2 - nudge, y2 + HEIGHT / 2)]
    out, into = (0.3 if lane > x else -0.3 for x in (x1, x2))
    below, above = y1 - HEIGHT / 2 - 0.16, y2 + HEIGHT / 2 + 0.16
    way = [(x1 + out, y1 - HEIGHT / 2), (lane, below), (lane, above)]
    return [*way, (x2 + into, y2 + HEIGHT / 2)]


def draw_arrow(axis: Axes, source: str, target: str) -> None:
    """From what is needed to what needs it; blue where it leads into another notebook."""
    within = IDEAS[source].notebook == IDEAS[target].notebook
    way = corners(source, target)
    style = {"color": GREY if within else BLUE, "linewidth": 1.1, "zorder": 2}
    axis.plot(*zip(*way[:-1]), solid_joinstyle="round", **style)
    arrow = FancyArrowPatch(
        way[-2], way[-1], arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, **style
    )
    axis.add_patch(arrow)


def concept_map() -> Figure:
    """The map as a figure, ten inches wide."""
    (top, rows) = list(heights().values())[-1]
    bottom = top - rows - 2 * MARGIN
    figure = Figure(figsize=(10, 0.68 * (0.45 - bottom)))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(LEFT, 5.6), ylim=(bottom - 0.45, 0))
    axis.axis("off")
    draw_bands(axis)
    for name, idea in IDEAS.items():
        for source in idea.needs:
            draw_arrow(axis, source, name)
        draw_box(axis, name)
    words = "An arrow leads from what is needed to what needs it; blue: from an earlier notebook."
    axis.text(LEFT + 0.08, bottom - 0.24, words, va="center", fontsize=8.5, color=INK)
    return figure


def main() -> None:
    """Write the picture, with the table's digest in it."""
    concept_map().savefig(PICTURE, dpi=200, metadata={"Source": digest()})
    print(f"{PICTURE.relative_to(HOUSE)}: {len(IDEAS)} ideas")


if __name__ == "__main__":
    main()
