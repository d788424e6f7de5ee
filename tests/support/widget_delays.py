"""Milliseconds from a move to the picture.

python -m tests.support.widget_delays [--quick] [--write]

A film and the explorer's time slider in JupyterLab in Chromium, moved by arrow keys and by mouse;
the board's Draw and Stop; the kernel's memory over 500 moves. All times are told by the page. It is
a benchmark, and its result lies in benchmarks/results; it stands here beside the browser it drives.
"""

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.common import bars, finish, machine, options
from tests.support.lab import (
    Area,
    Lab,
    Notebook,
    Slider,
    browser_path,
    chromium,
    is_blank,
    write_notebook,
)

CELLS = (
    "from cdiff_helpers import load_reference\n"
    "from cdiff_helpers.data import load_cifar10\n"
    "from cdiff_helpers.sampling import denoise\n"
    "from cdiff_helpers.widgets import film, noising_explorer, sampler_board\n"
    "model, process, _ = load_reference()",
    "film(list(denoise(model, process, range(10), guidance_scale=2.5)), columns=5)",
    "noising_explorer(load_cifar10(source='bundled'))",
    "sampler_board(model, process)",
)


@contextlib.contextmanager
def opened() -> Iterator[Notebook]:
    """A notebook with the three widgets, run, in a JupyterLab of its own."""
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        (folder := Path(home) / "notebooks").mkdir()
        write_notebook(folder / "widgets.ipynb", *CELLS)
        with contextlib.closing(Lab(folder, Path(home))) as lab:
            notebook = Notebook(browser, lab, "widgets.ipynb")
            notebook.run_all()
            yield notebook


def by_keys(area: Area, slider: Slider, moves: int) -> None:
    """Arrow keys, one after the picture of the other, to and fro between the slider's ends."""
    key = "ArrowRight"
    for _ in range(moves):
        if not 0.02 < slider.value() < 0.98:
            key = "ArrowRight" if slider.value() < 0.5 else "ArrowLeft"
        one_move(area, slider.press, key)


def by_mouse(area: Area, slider: Slider, moves: int, stops: int = 20) -> None:
    """One drag to and fro over the slider's track, halting at `stops` places."""
    slider.track.scroll_into_view_if_needed()
    places = [i / stops for i in range(stops + 1)]
    way = itertools.cycle([*places, *places[-2:0:-1]])
    area.page.mouse.move(*slider.place(slider.value()))
    area.page.mouse.down()
    area.page.mouse.move(*slider.place(next(way)))
    area.settled()
    for place in itertools.islice(way, moves):
        one_move(area, area.page.mouse.move, *slider.place(place))
    area.page.mouse.up()


def one_move(area: Area, move: Callable, *where) -> None:
    """Move, and wait until the picture is another one and the page is at rest."""
    before = area.pixels()
    move(*where)
    area.changed(before)
    area.page.wait_for_timeout(60)


def delays(record: dict, kind: str) -> list[float]:
    """Milliseconds from each input of a kind to the first change of the picture after it."""
    times = [event["time"] for event in record["inputs"] if event["type"] == kind]
    changes, found = [change["time"] for change in record["changes"]], []
    for time, following in zip(times, [*times[1:], float("inf")]):
        after = next((change for change in changes if change > time), None)
        if after is not None and after < following:
            found.append(after - time)
    return found


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def measured(area: Area, slider: Slider, moves: int) -> dict[str, list[float]]:
    """Delays in ms by arrow keys and by mouse."""
    found = {}
    for way, kind, act in (("keys", "keydown", by_keys), ("mouse", "pointermove", by_mouse)):
        act(area, slider, 5)  # what the first moves load is no move's
        with area.watched() as record:
            act(area, slider, moves)
        found[way] = delays(record, kind)
    return found


def flashes(area: Area, slider: Slider, moves: int) -> tuple[int, int]:
    """Frames without a picture over moves, half by keys and half by mouse, and all frames seen.

    The page looks at each of its frames, and the browser's screencast at what was painted.
    """
    slider.track.scroll_into_view_if_needed()
    with area.watched() as record, area.filmed() as painted:
        by_keys(area, slider, moves // 2)
        by_mouse(area, slider, moves - moves // 2)
    blank = record["blanks"] + sum(map(is_blank, painted))
    return blank, record["frames"] + len(painted)


def drawing(area: Area) -> tuple[float, float]:
    """Seconds from the click on Draw to its first picture and to its last."""
    before = area.settled()
    with area.watched() as record:
        area.button("Draw").click()
        area.changed(before)
        drawn(area)
    clicked = next(event["time"] for event in record["inputs"] if event["type"] == "click")
    times = [change["time"] for change in record["changes"] if change["time"] > clicked]
    return (times[0] - clicked) / 1000, (times[-1] - clicked) / 1000


def drawn(area: Area) -> None:
    """Wait until the board's frames can be scrubbed, so all are drawn."""
    area.slider("step").enabled()
    area.settled()


def stopping(area: Area) -> float:
    """Seconds from the click on Stop to the words that say so."""
    before = area.settled()
    with area.watched() as record:
        area.button("Draw").click()
        for _ in range(3):
            before = area.changed(before)
        area.button("Stop").click()
        area.says("stopped after")
        area.page.wait_for_timeout(100)
    clicked = [event["time"] for event in record["inputs"] if event["type"] == "click"][-1]
    said = [text["time"] for text in record["words"] if "stopped after" in text["words"]]
    drawn(area)
    return (said[0] - clicked) / 1000


def memory_growth(area: Area, slider: Slider, kernel, moves: int) -> float:
    """Megabytes that the kernel's process grows by over so many moves, after fifty others."""
    by_keys(area, slider, 50)
    before = kernel.memory_info().rss
    by_keys(area, slider, moves)
    area.settled()
    return (kernel.memory_info().rss - before) / 1e6


def browser_version() -> str:
    """What the browser calls itself."""
    command = [browser_path(), "--version"]
    return subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip()


def rows_of(taken: dict, blank: dict) -> list[list]:
    """The table: delays by widget and way, and frames without a picture."""
    rows = [["slider", "moved by", "p50 ms", "p95 ms", "moves", "frames seen", "without a picture"]]
    for name, ways in taken.items():
        for way, values in ways.items():
            p50, p95 = (f"{percentile(values, share):.0f}" for share in (0.5, 0.95))
            rows.append([name, way, p50, p95, len(values), "", ""])
        without, seen = blank[name]
        rows.append([name, "both", "", "", "", seen, without])
    return rows


def report(taken: dict, blank: dict, others: dict, write: bool) -> None:
    """Print and keep the table; the p95 of a slider is that of its slower way."""
    worst = {
        name: max(percentile(values, 0.95) for values in ways.values())
        for name, ways in taken.items()
    }
    keys = {
        "film_p95_ms": worst["film"],
        "film_without_kernel_p95_ms": worst["film, kernel shut down"],
        "kernel_p95_ms": worst["explorer"],
        "flashes": sum(without for without, _ in blank.values()),
        **others,
    }
    rows = rows_of(taken, blank)
    rows += [[name, "", f"{value:.2f}", "", "", "", ""] for name, value in others.items()]
    about = machine("jupyterlab", "ipywidgets", "playwright") | {"browser": browser_version()}
    figure = bars(worst, "ms from a move to the picture, 95th percentile", "sliders")
    finish("widgets", about, rows, keys, figure, write)


def main() -> None:
    args = options(__doc__)
    moves, rounds = (20, 1) if args.quick else (100, 5)
    taken, blank = {}, {}
    with opened() as notebook:
        film, explorer, board = (notebook.areas(kind)[0] for kind in ("film", "explorer", "board"))
        scrubbed = {
            "film": (film, film.sliders()["frame"]),
            "explorer": (explorer, explorer.slider("time t")),
        }
        for name, (area, slider) in scrubbed.items():
            taken[name] = measured(area, slider, moves)
            blank[name] = flashes(area, slider, moves)
        first, total = zip(*(drawing(board) for _ in range(rounds)))
        others = {
            "draw_first_s": median(first),
            "draw_total_s": median(total),
            "stop_s": max(stopping(board) for _ in range(rounds)),
            "memory_growth_mb": memory_growth(*scrubbed["explorer"], notebook.kernel(), 5 * moves),
        }
        notebook.shut_down()
        taken["film, kernel shut down"] = measured(*scrubbed["film"], moves)
        blank["film, kernel shut down"] = flashes(*scrubbed["film"], moves)
        if notebook.problems:
            raise RuntimeError("\n".join(notebook.problems))
    report(taken, blank, others, args.write)


if __name__ == "__main__":
    main()
