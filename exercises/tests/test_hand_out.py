"""Handing out: gaps stay gaps, solutions fill them, and definitions can be blanked."""

import subprocess
import sys

import nbformat
import pytest

from cdiff_exercises.room import EXERCISES
from exercises import hand_out
from exercises.hand_out import GAP, handed_out, part_of
from tests.support.notebooks import NOTEBOOKS

NUMBERS = [path.stem[:2] for path in NOTEBOOKS]
each_number = pytest.mark.parametrize("number", NUMBERS)


@each_number
def test_what_is_handed_out_is_the_courses_own_notebook(number):
    assert handed_out(number) == hand_out.read(number)


@each_number
def test_the_solved_form_differs_in_the_answers_alone_and_fills_every_gap(number):
    own, solved = hand_out.read(number), handed_out(number, solved=True)
    nbformat.validate(solved)
    assert [cell.id for cell in own.cells] == [cell.id for cell in solved.cells]
    for before, after in zip(own.cells, solved.cells):
        name, part = part_of(before) or ("", "")
        if part != "answer":
            assert before.source == after.source
            assert before.cell_type == "markdown" or part == "check" or before == after
        else:
            head = before.source.replace("\n    ".join(["", *GAP]), "")
            assert after.source.startswith(head) and GAP[1] not in after.source, name
            assert "### BEGIN SOLUTION" in after.source and after.outputs == []


@each_number
def test_no_solution_stands_in_a_notebook(number):
    text = nbformat.writes(hand_out.read(number))
    assert "BEGIN SOLUTION" not in text and "✓ right" not in text
    for name in hand_out.exercises_of(number):
        answer = hand_out.source_of(name, "answer")
        assert answer.endswith(GAP[1]) or "..." in answer or name == "final_task", name


def test_chosen_exercises_are_handed_out_alone():
    cells = handed_out("03", only=("noisy_at",)).cells
    assert {part_of(cell)[0] for cell in cells if part_of(cell)} == {"noisy_at"}


def test_chosen_definitions_are_blanked_and_checked_before_the_packages_own_goes_on():
    notebook = handed_out("03", blank=("add_noise", "cosine_alpha_bar"))
    ids = [cell.id for cell in notebook.cells]
    place = ids.index("blank-add_noise-check")
    blanked, check, after = (notebook.cells[place + i].source for i in (-1, 0, 1))
    assert check == "check.add_noise(DiffusionProcess().add_noise)"
    assert blanked.startswith("# yours to write") and GAP[1] in blanked
    assert "eq. 4" in blanked and "alpha_bar.sqrt() * x0 + " not in blanked  # the docstring stays
    assert after == (
        "from cdiff_helpers.diffusion import DiffusionProcess  "
        "# delete this line to go on with yours"
    )
    assert "whoever looks" in notebook.cells[place - 2].source
    assert notebook.cells[ids.index("blank-cosine_alpha_bar-check")].source == (
        "check.cosine_alpha_bar(cosine_alpha_bar)"
    )


def test_every_taught_definition_that_has_a_check_can_be_blanked():
    for name, entry in EXERCISES.items():
        if entry.kind == "taught":
            ids = (
                [cell.id for cell in handed_out(entry.notebook, blank=(name,)).cells]
                if (name[0].islower())
                else [f"blank-{name}-check"]
            )  # a class is blanked by one of its methods
            assert f"blank-{name}-check" in ids


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["09", "--to", "x"], "no notebook '09'; expected one of 01, 02"),
        (["03", "--to", "x", "--blank", "nothing"], "taught here; expected one of"),
        (["03", "--to", "x", "--exercises", "walk"], "has no exercise walk; it has"),
    ],
)
def test_a_mistake_ends_in_a_sentence_and_nothing_is_written(
    words, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert hand_out.main(words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced(tmp_path, capsys):
    assert hand_out.main(["03", "--to", str(tmp_path)]) == 0
    before = (tmp_path / "03_diffusion_process.ipynb").read_bytes()
    assert hand_out.main(["03", "--to", str(tmp_path), "--solved"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "03_diffusion_process.ipynb").read_bytes() == before


@pytest.mark.slow
@each_number
def test_a_solved_notebook_runs_and_every_check_says_right(number, tmp_path, monkeypatch):
    """By nbval at the reduced preset, as the notebooks with their gaps are run by plain pytest."""
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CDIFF_PRESET", "reduced")
    assert hand_out.main([number, "--to", str(tmp_path), "--solved"]) == 0
    path = tmp_path / hand_out.notebook_path(number).name
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if (part_of(cell) or "  ")[1] == "check":
            cell.source = f"verdict = {cell.source}\nassert verdict, verdict"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-n0", "-q", str(path)]
    done = subprocess.run(command, cwd=hand_out.HOUSE, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:]
