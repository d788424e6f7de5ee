"""What texts quote of the two recorded runs and of the judge is what the records say."""

import re

import pytest

from cdiff_helpers.reference import load_record, recorded_scores
from notebooks import HOUSE, NOTEBOOKS, cells

RUNS = ("reference", "two_cores")
CARD, TWO_CORES = load_record("reference"), load_record("two_cores")


def at(of, run="reference", **options):
    """The one score with these options."""
    found = [e for e in recorded_scores(of, run) if options.items() <= e.items()]
    assert len(found) == 1, (of, run, options)
    return found[0]


def text_of(place):
    """A file's text, or a notebook cell's: "05#scores-progress-read"; line breaks are spaces."""
    if "#" not in place:
        return " ".join((HOUSE / place).read_text(encoding="utf-8").split())
    number, name = place.split("#")
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
    (cell,) = (cell for cell in cells(path) if cell.id == name)
    return " ".join(cell.source.split())


def row(name, values, form):
    """A line of a Markdown table."""
    return f"| {name} | " + " | ".join(format(value, form) for value in values) + " |"


def curve(run):
    """The rows of benchmarks/README.md over the guidance scale."""
    scores = recorded_scores("guidance", run)
    forms = {"agreement": ".3f", "judge_fd": ".1f", "coverage": ".2f"}
    names = {"judge_fd": "judge-FD"}
    yield row("guidance scale", [e["guidance_scale"] for e in scores], "g")
    for key, form in forms.items():
        yield row(names.get(key, key), [e[key] for e in scores], form)


def solver_rows():
    """The rows of benchmarks/README.md over solvers and their steps."""
    scores = recorded_scores("solvers")
    counts = sorted({e["num_steps"] for e in scores})
    yield row("scale, solver", counts, "d")
    for scale in (1, 2.5):
        for solver in ("dpm++2m", "ddim", "ddpm"):
            options = {"guidance_scale": scale, "solver": solver}
            own = {e["num_steps"]: e for e in scores if options.items() <= e.items()}
            shown = [format(own[n]["judge_fd"], ".1f") if n in own else "" for n in counts]
            yield " ".join(row(f"{scale:g}, {solver}", shown, "").split())


@pytest.mark.parametrize("run", RUNS)
def test_the_tables_of_the_measurements_are_the_records(run):
    text = text_of("benchmarks/README.md")
    for line in curve(run):
        assert line in text
    name = {"reference": "H200", "two_cores": "two cores"}[run]
    for e in recorded_scores("snapshots", run):
        values = f"{e['images_seen']:,} | {e['agreement']:.3f} | {e['judge_fd']:.1f}"
        assert f"| {name} | {values} |" in text
    if run == "reference":
        for line in solver_rows():
            assert line in text


FINE = {"solver": "dpm++2m", "num_steps": 20}
TEN = {"solver": "dpm++2m", "num_steps": 10}
PLAIN, DRAWN = ({"guidance_scale": scale} for scale in (1, 2.5))
QUOTES = [
    (
        "README.md",
        f"{CARD['images_seen'] / 1e6:.1f} million images",
        "six minutes on one NVIDIA H200",
    ),
    (
        "benchmarks/README.md",
        f"a judge-FD of {at('solvers', **DRAWN, **TEN)['judge_fd']:.1f} against "
        f"{at('solvers', **DRAWN, **FINE)['judge_fd']:.1f}",
        f"at scale 1 {at('solvers', **PLAIN, **TEN)['judge_fd']:.1f} against "
        f"{at('solvers', **PLAIN, **FINE)['judge_fd']:.1f}",
    ),
]


@pytest.mark.parametrize("place, quotes", [(place, quotes) for place, *quotes in QUOTES])
def test_what_is_quoted_stands_in_the_record(place, quotes):
    text = text_of(place)
    for quote in quotes:
        assert quote in text, f"{place} does not say {quote!r}"


def test_no_text_speaks_of_the_old_reference():
    """Its minutes and images belong to the two-core record alone."""
    told = re.compile(r"64 minutes|1,011,200|1\.01 million|a million images", re.I)
    for path in [HOUSE / "README.md", *NOTEBOOKS]:
        parts = (
            [path.read_text(encoding="utf-8").replace("\n\n", "\0")]
            if path.suffix == ".md"
            else [cell.source for cell in cells(path, "markdown")]
        )
        for part in "\0".join(parts).split("\0"):
            if told.search(part):
                assert "two" in part.lower(), f"{path.name}: {part[:80]}"
