"""What a picture costs and how near it is: python -m benchmarks.sampling [--quick] [--write]

Seconds and network calls for one guided sample of each class at the default; and, for solvers,
grids of times and counts, the distance to the path that very many steps follow.
"""

import time
from collections.abc import Callable

import torch
from matplotlib.figure import Figure

from benchmarks.common import finish, in_turns, machine, options
from benchmarks.grids import GRIDS
from cdiff_helpers.reference import load_reference
from cdiff_helpers.sampling import DEFAULT_SOLVER, GUIDANCE_SCALE, sample_conditional_images

COUNTS = (5, 10, 15, 20, 30, 50)
COLORS = dict(zip(GRIDS, ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7")))


def counted(model) -> tuple[Callable, list[int]]:
    """The model, and a list that grows by a batch size at each call."""
    calls = []

    class Counted(torch.nn.Module):
        null_class, num_steps = model.null_class, model.num_steps

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, xt, t, y):
            calls.append(len(xt))
            return self.model(xt, t, y)

    return Counted().eval(), calls


def seconds(model, process, **choice) -> float:
    """Wall seconds for one guided sample of each class."""
    start = time.perf_counter()
    sample_conditional_images(model, process, range(10), guidance_scale=GUIDANCE_SCALE, **choice)
    return time.perf_counter() - start


def distances(model, process, count: int) -> list[list]:
    """[solver, grid, steps, distance]: RMS to the pictures of 500 steps, pixels in [0, 1]."""
    labels = [i % 10 for i in range(count)]
    options = {"guidance_scale": GUIDANCE_SCALE, "seed": 1_000}
    finest = sample_conditional_images(
        model, process, labels, solver="dpm++2m", num_steps=500, **options
    )
    rows = []
    for solver in ("ddim", "dpm++2m"):
        for grid, times in GRIDS.items():
            for steps in COUNTS:
                images = sample_conditional_images(
                    model,
                    process,
                    labels,
                    solver=solver,
                    num_steps=times(process, steps),
                    **options,
                )
                error = (images - finest).square().mean().sqrt().item()
                rows.append([solver, grid, steps, round(error, 4)])
    return rows


def picture(rows: list[list]) -> Figure:
    """Distance over steps, one line a solver and grid."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for solver, style in (("ddim", "--"), ("dpm++2m", "-")):
        for grid in GRIDS:
            line = [(steps, error) for s, g, steps, error in rows if (s, g) == (solver, grid)]
            axis.loglog(
                *zip(*line), style, color=COLORS[grid], marker="o", label=f"{solver}, {grid}"
            )
    axis.set(xlabel="network evaluations", ylabel="RMS distance to the pictures of 500 steps")
    axis.set_xticks(COUNTS, [str(n) for n in COUNTS])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    args = options(__doc__)
    model, process, _ = load_reference()
    model, calls = counted(model)
    seconds(model, process)  # the first time is slower: memory, thread pools
    used = len(calls)
    taken = in_turns(
        {
            "default": lambda: seconds(model, process),
            "ddim, 50": lambda: seconds(model, process, solver="ddim", num_steps=50),
        },
        rounds=3 if args.quick else 7,
    )
    rows = distances(model, process, 10 if args.quick else 50)
    keys = {
        "seconds": round(taken["default"], 3),
        "calls": used,
        "solver": DEFAULT_SOLVER,
        "seconds_ddim_50": round(taken["ddim, 50"], 3),
    }
    table = [["solver", "times", "steps", "distance"], *rows]
    finish("sampling", machine(), table, keys, picture(rows), args.write)


if __name__ == "__main__":
    main()
