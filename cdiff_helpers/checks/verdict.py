"""How an exercise is checked: by analytic cases, and answered by a sentence.

An exercise's check is a function of the student's answer. It says what is wrong by `Wrong`, or by
`Misconception` where the wrong values are those of a known mistake; `@exercise` turns it into the
public check, which never raises but returns a `Verdict`, and lists it in `EXERCISES`.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

KINDS = ("build", "predict", "bug", "taught")  # "taught": a definition that the notebook prints
GAP = "There is still a gap here: write it first. The hints stand above."


class Wrong(Exception):
    """What is wrong with an answer, in a sentence for its author."""


class Misconception(Wrong):
    """A known mistake, by its key in the exercise's `misconceptions`."""


class CheckFailed(Exception):
    """A verdict that did not pass, where a program marks: nbgrader counts a cell by its errors."""


@dataclass(frozen=True)
class Verdict:
    """What a check says: true where the answer passes; shows itself as a sentence."""

    exercise: str
    passed: bool
    sentence: str
    misconception: str | None = None  # its key, where the mistake is a known one

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.exercise}: {self.sentence}"


@dataclass(frozen=True)
class Exercise:
    """One exercise: where it stands, what it is worth, what is asked, and its known mistakes."""

    name: str
    notebook: str  # its number, "02" … "08"
    kind: str  # one of KINDS
    points: int
    minutes: int
    signature: str  # what the student writes, with shapes
    misconceptions: dict[str, str] = field(repr=False)  # key: what is told to whoever has it
    praise: str = field(repr=False)  # what is told to whoever is right
    body: Callable = field(repr=False)

    def judge(self, answer, body: Callable | None = None) -> Verdict:
        """The verdict of this exercise's check, or of a hidden one's `body`, on an answer."""
        try:
            if answer is None or answer is Ellipsis:
                raise Wrong(GAP)
            with torch.device("cpu"):  # where float64 is, whatever the default device
                (body or self.body)(answer)
        except Misconception as error:
            key = str(error)
            return Verdict(self.name, False, self.misconceptions[key], key)
        except Wrong as error:
            return Verdict(self.name, False, str(error))
        except Exception as error:  # a student's object can fail in any place
            return Verdict(self.name, False, f"it raised {said(error)}")
        return Verdict(self.name, True, self.praise)


EXERCISES: dict[str, Exercise] = {}


def exercise(
    *,
    notebook: str,
    kind: str,
    points: int,
    minutes: int,
    signature: str,
    misconceptions: dict[str, str],
    praise: str,
) -> Callable:
    """Make a body that raises `Wrong` into a check: answer -> `Verdict`, under the body's name.

    Where nbgrader runs the notebook, a check that does not pass raises `CheckFailed` instead.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")

    def register(body: Callable) -> Callable:
        entry = Exercise(
            body.__name__, notebook, kind, points, minutes, signature, misconceptions, praise, body
        )
        EXERCISES[entry.name] = entry

        @functools.wraps(body)
        def check(answer) -> Verdict:
            verdict = entry.judge(answer)
            if not verdict and "NBGRADER_EXECUTION" in os.environ:
                raise CheckFailed(repr(verdict))
            return verdict

        return check

    return register


def said(error: Exception) -> str:
    """An exception as "ValueError: its first line"."""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def call(answer: Callable, *args, **keywords):
    """answer(*args, **keywords); what goes wrong inside becomes a sentence."""
    if not callable(answer):
        raise Wrong(f"this is {answer!r}; expected a function. Hand it over without brackets.")
    try:
        value = answer(*args, **keywords)
    except NotImplementedError as error:
        raise Wrong(GAP) from error
    except Wrong:
        raise
    except Exception as error:
        raise Wrong(f"your function raised {said(error)}") from error
    if value is None:
        raise Wrong("your function returns None. Is there a return at its end?")
    return value


def call_tensor(answer: Callable, *args, shape: tuple[int, ...], **keywords) -> Tensor:
    """call(…) as a finite float64 tensor of that shape; anything else becomes a sentence."""
    value = call(answer, *args, **keywords)
    try:
        value = torch.as_tensor(value).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(f"you return {type(value).__name__}; expected a tensor of {shape}") from error
    if tuple(value.shape) != shape:
        raise Wrong(f"you return the shape {tuple(value.shape)}; expected {shape}.")
    if not value.isfinite().all():
        raise Wrong("some of your values are not finite (inf or nan): is something divided by 0?")
    return value


@contextmanager
def untouched(*tensors: Tensor) -> Iterator[None]:
    """Within this block nobody may change these tensors; whoever does is told so."""
    before = [tensor.clone() for tensor in tensors]
    yield
    if not all(map(torch.equal, before, tensors)):
        raise Wrong("your function changes a tensor that it was given. Work on a new one.")


def number(answer) -> float:
    """An answer as one number; anything else becomes a sentence."""
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(f"this is {answer!r}; expected a number.") from error


def close(value, wanted, tolerance: float = 1e-4) -> bool:
    """Whether two tensors or numbers agree everywhere, within `tolerance` relative and absolute."""
    value, wanted = (torch.as_tensor(each).cpu().double() for each in (value, wanted))
    if value.shape != wanted.shape:
        return False
    return bool(torch.allclose(value, wanted, rtol=tolerance, atol=tolerance))


def diagnose(value, wanted, mistakes: Mapping[str, object], tolerance: float = 1e-4) -> None:
    """Nothing where the value is the wanted one; else the mistake whose value it is, or Wrong.

    `mistakes` maps misconceptions' keys to the values that they lead to.
    """
    if close(value, wanted, tolerance):
        return
    for key, mistaken in mistakes.items():
        if close(value, mistaken, tolerance):
            raise Misconception(key)
    raise Wrong(differs(value, wanted))


def differs(value, wanted) -> str:
    """Where two tensors of the same shape differ most, in words."""
    value, wanted = (torch.as_tensor(each).cpu().double() for each in (value, wanted))
    if not value.ndim:
        return f"you say {value.item():.4g}; expected {wanted.item():.4g}."
    place = (value - wanted).abs().flatten().argmax()
    where = [int(i) for i in torch.unravel_index(place, wanted.shape)]
    here = f"at {where} you have {value.flatten()[place]:.4g}"
    return f"{here}; expected {wanted.flatten()[place]:.4g}."


def told_numbers(answer, names: tuple[str, ...]) -> Tensor:
    """The numbers of a dict with these keys, in their order; anything else becomes a sentence."""
    if not isinstance(answer, dict):
        raise Wrong(
            f"this is {type(answer).__name__}; expected a dict with a number for each name."
        )
    missing = [name for name in names if answer.get(name) in (None, ...)]
    if missing:
        raise Wrong(f"there is still a gap at {missing[0]!r}: put a number there.")
    return torch.tensor([float(answer[name]) for name in names], dtype=torch.float64)
