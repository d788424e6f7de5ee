"""The room: what it looks at once for every exercise, what it says, and that no answer leaks."""

import ast
import inspect
import re
import subprocess

import numpy as np
import pytest
import torch

from cdiff_exercises import check
from cdiff_exercises.answer import Answer, Draw, Wrong, gradient, one_number
from cdiff_exercises.room import EXERCISES, EXPECTED, CheckFailed, known, pattern, texts
from exercises import hand_out
from exercises.private import ANSWERS

FOLDER = EXPECTED.parent


def exit_now():
    raise SystemExit("all right")


@pytest.mark.parametrize(
    ("function", "stop"),
    [
        (lambda x: x.add_(1), "changes its input"),
        (lambda x: x / 0, "not finite"),
        (lambda x: x.detach() * float("nan"), "not finite"),
        (lambda x: x[:1], "shape (1, 3)"),
        (lambda x: "text", "returns str"),
        (lambda x: None, "None"),
        (lambda x: x.no_such_thing, "raised AttributeError"),
        (lambda: 1, "raised TypeError"),
        (7, "no function"),
        (lambda x: exit_now(), "raised SystemExit"),
        (lambda x: torch.empty(2).unsupported(), "raised AttributeError"),
        (..., "gap"),
        (None, "gap"),
    ],
)
def test_what_can_go_wrong_with_any_answer_is_seen_once_for_all(function, stop):
    with pytest.raises(Wrong) as error:
        Answer(function)(torch.ones(2, 3), shape=(2, 3))
    assert (error.value.stop == stop and str(error.value)[-1] in ".?0'") or "raised" in stop


@pytest.mark.parametrize(
    ("value", "dtype", "passes"),
    [
        ([1, 2], "whole", True),
        (np.array([1, 2]), "whole", True),
        (torch.tensor([1.0, 2.0]), "whole", False),
        ([True, False], "whole", False),
        (torch.tensor([1, 2], dtype=torch.uint8), "uint8", True),
        (torch.tensor([1, 2]), "uint8", False),
        ([1.5, 2], "float", True),
    ],
)
def test_types_are_looked_at(value, dtype, passes):
    if passes:
        assert Answer(lambda: value)(dtype=dtype).dtype == torch.float64
    else:
        with pytest.raises(Wrong, match="you return numbers of type"):
            Answer(lambda: value)(dtype=dtype)


def test_what_lies_inside_lists_frames_and_modules_may_not_change_either():
    from cdiff_helpers.diffusion import DiffusionProcess
    from cdiff_helpers.sampling import Frame

    x = torch.ones(2)
    frame = Frame(3, x.clone(), x.clone())
    for thing, change in (
        ([(x,)], lambda thing: thing[0][0].zero_()),
        (frame, lambda frame: frame.xt.zero_()),
        (DiffusionProcess(5), lambda process: process.alpha_bar.zero_()),
    ):
        with pytest.raises(Wrong, match="changes a tensor"):
            Answer(change)(thing)


def test_a_gradient_that_does_not_flow_is_said():
    weight = torch.ones(2, requires_grad=True)
    assert gradient((3 * weight).sum(), weight).tolist() == [3, 3]
    for value in (torch.tensor(1.0), (3 * weight).sum().detach()):
        with pytest.raises(Wrong, match="no gradient flows"):
            gradient(value, weight)


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.array([3]), torch.tensor(3)])
def test_numbers_of_every_kind_are_numbers(value):
    assert one_number(value) == 3


@pytest.mark.parametrize("value", ["3", True, float("nan"), [3], {"a": 3}, 3j])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(Wrong, match="expected a number"):
        one_number(value)


def test_inputs_are_the_same_on_every_platform():
    """PCG64's first numbers for two seeds, as numpy 1.26 and 2.4 draw them."""
    draw = Draw(5, 1)
    assert [draw.whole(0, 999) for _ in range(4)] == STORED[:4]
    assert np.allclose([draw.number(), float(draw.normal(1)[0])], STORED[4:], atol=1e-12)


STORED = [132, 774, 778, 470, 0.6958803443421149, 0.7814066462771306]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: 3 * x, "is 3 times what it should be, everywhere"),
        (lambda x: x - 2, "is off by -2 everywhere"),
        (lambda x: x.flip(0), "holds the right numbers in other places"),
        (lambda x: torch.cat([x[:2], 0 * x[2:]]), "differs from entry 2 on"),
        (lambda x: x + (x == x[1, 1]), "differs at entry 1"),
    ],
)
def test_a_difference_is_described_by_its_pattern(change, sentence):
    x = torch.arange(1.0, 13).view(4, 3).double() ** 1.5
    assert sentence in pattern(change(x), x, 1e-4)


def test_a_check_never_raises_but_for_nbgrader(monkeypatch):
    class Odd:
        def __call__(self, *args, **keywords):
            raise KeyError

        def __getattr__(self, name):
            raise RuntimeError(name)

        __repr__ = __iter__ = __float__ = __len__ = __call__

    for name in EXERCISES:
        for answer in (None, 3, "x", [], {}, object(), Odd(), int, lambda *a, **k: object()):
            assert not getattr(check, name)(answer), name
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(CheckFailed, match="gap"):
        check.half_life(...)


def test_the_callers_random_stream_goes_on():
    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    check.drop_labels(lambda y, p, *, null_class, generator=None: y + torch.randint(9, y.shape))
    assert torch.rand(2).tolist() == expected


def public_texts(name: str) -> dict[str, str]:
    """All that a student can ask Python for about an exercise, and the files that are installed."""
    function, entry = getattr(check, name), EXERCISES[name]
    cells = [c for c in hand_out.read(entry.notebook).cells if hand_out.part_of(c)]
    own = [cell for cell in cells if hand_out.part_of(cell)[0] == name]
    return {
        "its docstring": function.__doc__,
        "its source": inspect.getsource(function),
        "its names": " ".join(dir(function)),
        "its closure": repr([cell.cell_contents for cell in function.__closure__ or ()]),
        "its trial": inspect.getsource(entry.trial),
        "its texts": str(texts(name)),
        "its numbers": str(known(name)) if entry.kind != "predict" else "",  # those are digests
        "its cells": "".join(cell.source for cell in own if not cell.id.endswith("-task")),
        "its outputs": "".join(str(cell.get("outputs", "")) for cell in own),
    }


def clue(answer) -> list[str]:
    """What of an answer would tell it: a predicted number as typed, a function's expressions."""
    if not callable(answer):
        numbers = list(answer.values()) if isinstance(answer, dict) else np.atleast_1d(answer)
        return [rf"(?<![\d.]){re.escape(f'{n:g}')}(?![\d.])" for n in numbers if n not in (0, 0.5)]
    try:
        tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(answer)))
    except SyntaxError:  # a lambda within a call
        return []
    parts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return | ast.Assign) and n.value]
    texts = ["".join(ast.unparse(part).split()) for part in parts]
    return [re.escape(text) for text in texts if len(text) > 16]


@pytest.mark.parametrize("name", [n for n, e in EXERCISES.items() if e.kind != "taught"])
def test_no_answer_leaks(name):
    given = "".join(hand_out.source_of(name, "task").split())  # what the task says is no leak
    for answer in ANSWERS[name]["right"]:
        for where, text in public_texts(name).items():
            text = text if not callable(answer) else "".join(text.split())
            clues = [each for each in clue(answer) if not re.search(each, given)]
            leaks = [each for each in clues if re.search(each, text)]
            assert not leaks, f"{where}: {leaks}"


def test_a_docstring_is_signature_kind_and_points():
    for name, entry in EXERCISES.items():
        signature, rest = getattr(check, name).__doc__.split("\n\n")
        assert signature.startswith(name) and len(signature) < 120
        assert rest == f"{entry.kind}, {entry.points} points"


def test_the_public_side_knows_nothing_of_the_private_one():
    for path in FOLDER.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"exercises\.(private|build|mark|hand_out)|from exercises", text), path


def test_an_exercise_touches_two_folders():
    """`exercises` and `notebooks`: nothing else knows an exercise by its name."""
    tracked = subprocess.run(
        ["git", "grep", "-I", "--untracked", "-noE", r"ex-\w+-(task|answer|check)|check\.\w+"],
        cwd=hand_out.HOUSE, capture_output=True, encoding="utf-8", check=True,
    ).stdout  # fmt: skip
    for name in (n for n, e in EXERCISES.items() if e.kind != "taught"):
        hits = re.findall(rf"^([^:]+):\d+:(?:ex-{name}-\w+|check\.{name})$", tracked, flags=re.M)
        assert {hit.split("/")[0] for hit in hits} <= {"exercises", "notebooks"}, name
        files = {
            p.relative_to(hand_out.HOUSE).parts[0] for p in hand_out.HOUSE.glob(f"*/**/{name}.*")
        }
        assert files == {"exercises"}, files


def test_every_file_is_named_as_its_notebook():
    stems = {path.stem for path in (hand_out.HOUSE / "notebooks").glob("*.ipynb")}
    for folder in (FOLDER, hand_out.HOUSE / "exercises" / "private"):
        assert {path.stem.removeprefix("nb") for path in folder.glob("nb*.py")} == stems
