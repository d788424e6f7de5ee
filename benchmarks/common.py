"""What every benchmark needs: turns, the machine's name, a table, a picture, a line of JSON."""

import argparse
import datetime
import json
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure

from cdiff_helpers.runtime import installed_version, processor_name

RESULTS = Path(__file__).parent / "results"


def options(description: str, **more: dict) -> argparse.Namespace:
    """--quick: under five minutes; --write: keep the figures and the picture in results/.

    `more` are a benchmark's own options: argparse's settings, by the option's name.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under five minutes")
    parser.add_argument(
        "--write", action="store_true", help="keep the result in benchmarks/results"
    )
    return parser.parse_args()


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each way's measurements, taken in turn: a slow minute hits all of them."""
    taken = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            taken[name].append(measure())
    return {name: median(values) for name, values in taken.items()}


def machine(*packages: str) -> dict:
    """Processor, threads, device, versions, date."""
    found = {"python": platform.python_version()}
    found |= {name: installed_version(name) for name in ("torch", *packages)}
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": found,
        "date": datetime.date.today().isoformat(),
    }


def bars(values: dict[str, float], unit: str, title: str) -> Figure:
    """One bar a way, longest at the top, with its number."""
    figure = Figure(figsize=(7, 0.8 + 0.45 * len(values)), layout="constrained")
    axis = figure.subplots()
    ordered = dict(sorted(values.items(), key=lambda item: item[1]))
    drawn = axis.barh(list(ordered), list(ordered.values()), color="#0072B2")
    axis.bar_label(drawn, fmt="{:,.4g}", padding=3)
    axis.set(xlabel=unit, title=title)
    axis.margins(x=0.15)
    return figure


def finish(name: str, about: dict, rows: list[list], keys: dict, figure: Figure, write: bool):
    """Print the table and, last, one line of JSON; keep both and the picture where asked."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    if write:
        RESULTS.mkdir(exist_ok=True)
        result = {"machine": about, "rows": rows, **keys}
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        figure.savefig(RESULTS / f"{name}.png", dpi=100)
    print(json.dumps(keys | {"machine": about}))
