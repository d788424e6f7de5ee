"""What all exercises share: running a trial, comparing its results, saying what is wrong.

An exercise is a *trial*: a generator function of an `Answer` and of the `Draw` that its inputs come
from. It yields named results, (name, value) or (name, value, tolerance). `expected/` holds the
results of the right answer and of known mistakes on the shown seed, numbers and no code; the .ini
file beside the trial holds what is said to whoever has them.
"""

import configparser
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from cdiff_exercises.answer import Answer, Draw, Wrong, digest, one_line

EXPECTED = Path(__file__).parent / "expected"
KINDS = ("build", "predict", "bug", "taught")  # "taught": a definition that the notebook prints
SHOWN_SEED = 0
TOLERANCE = 1e-4  # relative and absolute, where a trial names none


class CheckFailed(Exception):
    """A verdict that did not pass, where a program marks: nbgrader counts a cell by its errors."""


@dataclass(frozen=True)
class Exercise:
    """One exercise: where it stands, what it is worth, what is asked, and how it is tried."""

    name: str
    notebook: str  # its number, "01" … "08"
    kind: str  # one of KINDS
    points: int
    minutes: int
    signature: str  # what the student writes, with shapes
    trial: Callable = field(repr=False)


@dataclass
class Results:
    """What a trial found: float64 tensors by name, with their tolerances, as far as it came."""

    values: dict[str, Tensor] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    stop: str = ""  # what ended the trial early, the same wherever it runs; "" at its end
    sentence: str = ""  # the same for the answer's author


@dataclass(frozen=True)
class Verdict:
    """What a check says: true where the answer passes; shows itself as a sentence."""

    exercise: str
    passed: bool
    sentence: str
    mistake: str | None = None  # its key, where it is a known one

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        mark = "✓ right" if self.passed else "✗ not yet"
        return f"{mark} · {self.exercise}: {self.sentence}"

    def _repr_markdown_(self) -> str:
        """For a notebook, where hints' code is shown as code and lines break between words."""
        return repr(self).replace("<", "&lt;")


EXERCISES: dict[str, Exercise] = {}


def exercise(kind: str, *, points: int, minutes: int) -> Callable:
    """Make a trial an exercise of its module's notebook; its docstring is what is asked for."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")

    def register(trial: Callable) -> Callable:
        name, number = trial.__name__, trial.__module__.rpartition(".nb")[2][:2]
        signature = inspect.cleandoc(trial.__doc__ or "")
        EXERCISES[name] = Exercise(name, number, kind, points, minutes, signature, trial)
        return trial

    return register


def run(name: str, value, *seeds: int) -> Results:
    """Put an answer through its exercise's trial, with inputs from these seeds."""
    entry, results = EXERCISES[name], Results()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # an answer may draw at random; afterwards the caller's stream goes on
        try:
            for key, result, *tolerance in entry.trial(Answer(value), Draw(*seeds)):
                while key in results.values:  # two cases of one size
                    key += ", once more"
                if not isinstance(result, Tensor):
                    result = torch.tensor(result, dtype=torch.float64)  # no digit of a float lost
                result = result.detach().cpu().double()
                if entry.kind == "predict":
                    result = digest(f"{name}/{key}/{seeds}", result.item())
                results.values[key] = result
                results.tolerances[key] = tolerance[0] if tolerance else TOLERANCE
        except Wrong as error:
            results.stop, results.sentence = error.stop, str(error)
        except Exception as error:  # a student's object can fail in any place
            results.stop, results.sentence = type(error).__name__, f"it raised {one_line(error)}"
    return results


def close(value: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two results agree everywhere, within `tolerance` relative and absolute."""
    same_shape = value.shape == expected.shape
    return same_shape and bool(torch.allclose(value, expected, rtol=tolerance, atol=tolerance))


def first_difference(results: Results, expected: Results) -> str | None:
    """The name of the first result that is not the expected one, "" for another end, else None."""
    for key, target in expected.values.items():
        if key not in results.values:
            return ""
        if not close(results.values[key], target, expected.tolerances[key]):
            return key
    same_end = results.stop == expected.stop and results.values.keys() == expected.values.keys()
    return None if same_end else ""


@cache
def texts(name: str) -> dict[str, str]:
    """What is said of an exercise's answers: praise under "right", a hint by each mistake's key.

    The text under "otherwise", where there is one, helps whoever is wrong in no known way.
    """
    (path,) = EXPECTED.parent.glob(f"nb{EXERCISES[name].notebook}_*.ini")
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8"))
    if name not in parser:
        raise ValueError(f"{path.name} has no section [{name}].")
    return dict(parser[name])


@cache
def known(name: str) -> list[tuple[str, Results]]:
    """(key, results) of each known answer on the shown seed; right ones first, as "right"."""
    with safe_open(EXPECTED / f"{name}.safetensors", "pt") as file:
        ends, tolerances = (json.loads(file.metadata()[key]) for key in ("ends", "tolerances"))
        tensors = {key: file.get_tensor(key).double() for key in file.keys()}  # noqa: SIM118
    answers = []
    for number, (key, stop) in enumerate(ends):
        values = {k: tensors[f"{number}/{k}"] for k in tolerances if f"{number}/{k}" in tensors}
        answers.append((key, Results(values, tolerances, stop)))
    return answers


def likely_mistake(name: str, results: Results) -> str | None:
    """The one mistake that gives the first wrong result; else None.

    It is asked where no known answer gives all of the results: whoever makes two slips is told of
    one. Whole numbers are too alike to tell by, unless there are many.
    """
    right = known(name)[0][1]
    key = first_difference(results, right)
    value = results.values.get(key) if key else None
    if value is None or (value.numel() < 8 and torch.equal(value, value.round())):
        return None
    slips = {
        mistake
        for mistake, other in known(name)
        if key in other.values and close(value, other.values[key], right.tolerances[key])
    }
    return slips.pop() if len(slips) == 1 and slips != {"right"} else None


def judge(name: str, results: Results) -> Verdict:
    """The verdict on results for the shown seed: right, a known mistake, or how they differ."""
    for key, expected in known(name):
        if first_difference(results, expected) is None:
            right = key == "right"
            return Verdict(name, right, texts(name)[key], None if right else key)
    if slip := likely_mistake(name, results):
        return Verdict(name, False, texts(name)[slip], slip)
    sentence = difference(EXERCISES[name], results, known(name)[0][1])
    more = texts(name).get("otherwise", "") if not results.stop else ""
    return Verdict(name, False, f"{sentence} {more}".strip())


def difference(entry: Exercise, results: Results, right: Results) -> str:
    """How results differ from the right ones, in a sentence; of a predicted number only that."""
    key = first_difference(results, right)
    if key is None:
        return ""
    if not key:
        return results.sentence
    if entry.kind == "predict":
        return f"{key}: not that."
    value, expected = results.values[key], right.values[key]
    if value.shape != expected.shape:
        return f"{key} has the shape {tuple(value.shape)}; expected {tuple(expected.shape)}."
    if key.endswith("?"):
        return f"{key} You say {'yes' if value else 'no'}."
    if value.numel() == 1:
        return f"{key} is {value.item():.4g}; expected {expected.item():.4g}."
    return f"{key} {pattern(value, expected, right.tolerances[key])}."


def pattern(value: Tensor, expected: Tensor, tolerance: float) -> str:
    """What two tensors of one shape have to do with each other, in words."""
    largest = expected.abs() > 0.1 * expected.abs().max()
    factor = (value[largest] / expected[largest]).median()
    shift = (value - expected).median()
    if close(value, factor * expected, tolerance):
        return f"is {factor:.4g} times what it should be, everywhere"
    if close(value, expected + shift, tolerance):
        return f"is off by {shift:.4g} everywhere"
    if close(value.flatten().sort()[0], expected.flatten().sort()[0], tolerance):
        return "holds the right numbers in other places"
    wrong = ~torch.isclose(value, expected, rtol=tolerance, atol=tolerance)
    rows = wrong.flatten(1).any(1) if wrong.ndim > 1 else wrong
    place = int(rows.int().argmax())
    share = f"at {int(wrong.sum())} of {wrong.numel()} places"
    if not rows.all():
        share = (
            f"from entry {place} on" if rows[place:].all() else f"at entry {place} (and not all)"
        )
    worst = int((value - expected).abs().argmax())
    pair = [each.flatten()[worst].item() for each in (value, expected)]
    pair = [0.0 if abs(each) < tolerance else each for each in pair]
    digits = next(n for n in (4, 6, 9) if n == 9 or f"{pair[0]:.{n}g}" != f"{pair[1]:.{n}g}")
    return f"differs {share}: for example {pair[0]:.{digits}g} for {pair[1]:.{digits}g}"


class Checks:
    """check.NAME(answer): a `Verdict` on an answer, which never raises.

    Where nbgrader runs the notebook, a check that does not pass raises `CheckFailed` instead.
    """

    def __getattr__(self, name: str) -> Callable:
        if name not in EXERCISES:
            raise AttributeError(
                f"there is no exercise {name!r}; python -m cdiff_exercises lists them"
            )

        def check(answer=None) -> Verdict:
            verdict = judge(name, run(name, answer, SHOWN_SEED))
            if not verdict and "NBGRADER_EXECUTION" in os.environ:
                raise CheckFailed(repr(verdict))
            return verdict

        entry = EXERCISES[name]
        check.__name__ = check.__qualname__ = name
        check.__doc__ = f"{entry.signature}\n\n{entry.kind}, {entry.points} points"
        return check

    def __dir__(self) -> list[str]:
        return sorted(EXERCISES)


check = Checks()
