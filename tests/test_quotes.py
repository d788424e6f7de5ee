"""What texts quote of the two recorded runs and of the judge is what the records say."""

import itertools
import re

import pytest

from cdiff_helpers.evaluation import judge_card
from cdiff_helpers.reference import load_record, recorded_scores
from cdiff_helpers.runtime import PRESETS
from tests.support.notebooks import HOUSE, NOTEBOOKS, cells

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


def fd(scale, solver, count):
    """The judge-FD of a solver and its steps, as texts quote it."""
    options = {"guidance_scale": scale, "solver": solver, "num_steps": count}
    return f"{at('solvers', **options)['judge_fd']:.1f}"


def guided(key, scale, form, run="reference"):
    """A score at a guidance scale, as texts quote it."""
    return format(at("guidance", run, guidance_scale=scale)[key], form)


def stage(key, images, form, run="reference"):
    """A snapshot's score, as texts quote it."""
    return format(at("snapshots", run, images_seen=images)[key], form)


def gain(name):
    """By how much a class's agreement rises from scale 1 to 2.5."""
    low, high = (at("guidance", guidance_scale=w)["agreement_per_class"][name] for w in (1, 2.5))
    return high - low


def ratios():
    """What each doubling from 800,768 images on divides the reference's judge-FD by."""
    scores = [e["judge_fd"] for e in recorded_scores("snapshots") if e["images_seen"] > 800_000]
    return [before / after for before, after in itertools.pairwise(scores)]


def seen(preset):
    """The images of notebook 05's run at a preset."""
    return PRESETS[preset].num_updates * PRESETS[preset].batch_size


GPU = PRESETS["gpu"]
SEEN, SEEN_BY_TWO = (f"{card['images_seen']:,}" for card in (CARD, TWO_CORES))
JUDGE = judge_card()["real"]
TEN = {"solver": "dpm++2m", "num_steps": 10}
DEFAULT, PLAIN = (at("solvers", guidance_scale=scale, **TEN) for scale in (2.5, 1))
QUOTES = {
    "README.md": (
        f"{CARD['images_seen'] / 1e6:.1f} million images",
        f"{CARD['minutes']:.0f} minutes on one {CARD['device']}".replace("6 ", "six "),
        "agreement {:.3f} ({:.3f} to {:.3f}), judge-FD {}".format(
            DEFAULT["agreement"], *DEFAULT["agreement_interval"], fd(2.5, "dpm++2m", 10)
        ),
        f"at scale 1 {PLAIN['agreement']:.3f} and {fd(1, 'dpm++2m', 10)}; real test "
        f"images have {JUDGE['agreement']:.3f} and {JUDGE['judge_fd']:.1f}",
    ),
    "cdiff_helpers/reference.py": (f"{CARD['images_seen'] / 1e6:.1f} million images",),
    "benchmarks/README.md": (
        f"a judge-FD of {fd(2.5, 'dpm++2m', 10)} against {fd(2.5, 'dpm++2m', 20)}",
        f"at scale 1 {fd(1, 'dpm++2m', 10)} against {fd(1, 'dpm++2m', 20)}",
        f"eight steps give {fd(2.5, 'dpm++2m', 8)}, six {fd(2.5, 'dpm++2m', 6)}",
        f"in 200 steps, {fd(2.5, 'ddpm', 200)}",
    ),
    "06#scores-solvers-read": (
        *(f"{n} give {fd(2.5, 'dpm++2m', n)}" for n in (5, 6, 8, 10, 20)),
        f"at scale 1, 10 give {fd(1, 'dpm++2m', 10)} and 20 give {fd(1, 'dpm++2m', 20)}",
        f"DDIM needs 20 ({fd(2.5, 'ddim', 20)}) to 50 ({fd(2.5, 'ddim', 50)})",
        f"sampling 50 ({fd(2.5, 'ddpm', 50)})",
        f"{fd(2.5, 'ddpm', 200)} in 200",
        f"DDIM's 50 ({fd(1, 'ddim', 50)}) and DDPM's 200 ({fd(1, 'ddpm', 200)})",
    ),
    "06#scores-guidance-read": (
        f"{guided('agreement', 1, '.2f')} at scale 1, {guided('agreement', 2.5, '.2f')} at 2.5, "
        f"{guided('agreement', 8, '.3f')} at 8",
        f"from {guided('judge_fd', 1, '.1f')} at scale 1 to {guided('judge_fd', 2.5, '.1f')} at "
        f"2.5 and {guided('judge_fd', 3, '.1f')} at 3",
        f"back at {guided('judge_fd', 8, '.1f')} at 8",
        f"({guided('coverage', 2.5, '.2f')}, at scale 1 {guided('coverage', 1, '.2f')})",
        f"falls to {guided('coverage', 8, '.2f')} at 8",
        f"real test images ({JUDGE['agreement']:.3f})",
    ),
    "01#c01-008": (
        f"At the cpu preset your run sees {seen('cpu'):,} images",
        f"At the gpu preset it sees {seen('gpu') / 1e6:.1f} million",
    ),
    "05#c05-066": (
        f"({GPU.batch_size:,} where the memory allows)",
        f"the run sees {seen('gpu') / 1e6:.1f} million images",
    ),
    "05#scores-progress-read": (
        f"(judge-FD {stage('judge_fd', 51_840, '.0f', 'two_cores')}, agreement "
        f"{stage('agreement', 51_840, '.2f', 'two_cores')})",
        f"({stage('judge_fd', 50_176, '.0f')}, {stage('agreement', 50_176, '.2f')})",
        f"{SEEN_BY_TWO} images give {stage('judge_fd', 1_011_200, '.0f', 'two_cores')} and "
        f"{stage('agreement', 1_011_200, '.2f', 'two_cores')}",
        f"{SEEN} give {stage('judge_fd', 21_791_744, '.0f')} and "
        f"{stage('agreement', 21_791_744, '.2f')}",
        f"at 1,600,512 images the reference ({stage('judge_fd', 1_600_512, '.0f')})",
    ),
    "05#scores-doublings-read": (
        "the distance by {:.1f} and {:.1f}, the next two by {:.1f} and {:.1f}".format(*ratios()),
        f"the last row by {ratios()[-1]:.1f}",
    ),
    "07#scores-classes-read": (
        f"dogs most, by {gain('dog'):.2f}",
        f"frogs least, by {gain('frog'):.2f}",
    ),
    "07#c07-film-read": (
        ", ".join(guided("agreement", scale, ".3f") for scale in (2.5, 4, 6)),
        ", ".join(guided("judge_fd", scale, ".1f") for scale in (2.5, 4, 6)),
        ", ".join(guided("coverage", scale, ".2f") for scale in (2.5, 4, 6)),
    ),
    "07#c07-087": (
        f"{guided('coverage', 2.5, '.2f')} at 2.5 to {guided('coverage', 4, '.2f')} at 4 and "
        f"{guided('coverage', 6, '.2f')} at 6",
    ),
    "08#c08-007": (
        f"{CARD['images_seen'] / 1e6:.1f} million",
        f"has seen {seen('cpu') // 2:,} images, at gpu {seen('gpu') / 2e6:.1f} million",
        f"{CARD['images_seen'] / seen('cpu') * 2:,.0f}"[:-2] + "00 or "
        f"{CARD['images_seen'] / seen('gpu') * 2:.0f} times as many",
    ),
    "08#c08-018": (f"the gpu preset's {GPU.num_updates // 10}, of {GPU.batch_size:,} images each",),
    "08#c08-043": (
        "{:.1f}, {:.1f} and {:.1f}".format(
            *(CARD["averages"][d] for d in sorted(CARD["averages"]))
        ),
    ),
    "08#c08-045": (
        f"{stage('agreement', 1_011_200, '.2f', 'two_cores')} after 1.0 million",
        f"{stage('agreement', 1_600_512, '.2f')} after 1.6 million",
    ),
    "08#c08-053": (
        f"{TWO_CORES['test_noise_mse']:.4f} and {CARD['test_noise_mse']:.4f}",
        f"{guided('judge_fd', 1.5, '.0f', 'two_cores')} and {guided('judge_fd', 1.5, '.0f')}",
    ),
    "08#9d2e40d8": (f"{JUDGE['agreement']:.3f}", guided("agreement", 2.5, ".3f")),
    "08#44e52041": (f"about {CARD['epochs']:.0f} times",),
}


@pytest.mark.parametrize("place", QUOTES)
def test_what_is_quoted_stands_in_the_record(place):
    text = text_of(place)
    for quote in QUOTES[place]:
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
