"""Write a notebook for students: chosen exercises, blanked definitions, or all of it solved.

python -m exercises.hand_out 03 --to FOLDER [--exercises …] [--blank …] [--solved]

The notebooks hold the gaps and `exercises/private` the solutions, so nothing has to be taken out.
An exercise's cells are known by their ids: `ex-NAME-task`, `-answer`, `-check`.
"""

import argparse
import ast
import inspect
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from cdiff_exercises.room import EXERCISES
from exercises.private import ANSWERS, SOLUTIONS

HOUSE = Path(__file__).resolve().parent.parent
CELL = re.compile(r"ex-(?P<name>\w+)-(?P<part>task|answer|check)")
GAP = ("# YOUR CODE HERE", "raise NotImplementedError()")  # as nbgrader makes it
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
BLANKED = (
    "**Yours to write.** The body of `{name}` below is empty: fill it, and let the check speak. "
    "The package holds this definition, too, and shows it to whoever looks: it is there to compare "
    "with afterwards. The notebook goes on with the package's own, so that it runs whether yours "
    "does or not: delete the line that imports it, and it goes on with yours."
)


def notebook_path(number: str) -> Path:
    """The notebook with this number; raises ValueError naming those that there are."""
    paths = {path.stem[:2]: path for path in sorted((HOUSE / "notebooks").glob("*.ipynb"))}
    if number not in paths:
        raise ValueError(f"there is no notebook {number!r}; expected one of {', '.join(paths)}.")
    return paths[number]


@cache
def text_of(number: str) -> str:
    return notebook_path(number).read_text(encoding="utf-8")


def read(number: str) -> NotebookNode:
    """The course's own notebook with this number."""
    return nbformat.reads(text_of(number), as_version=4)


def part_of(cell: NotebookNode) -> tuple[str, str] | None:
    """(name, part) of an exercise's cell, None for any other."""
    match = CELL.fullmatch(cell.get("id", ""))
    return (match["name"], match["part"]) if match else None


def exercises_of(number: str) -> list[str]:
    """The names of a notebook's exercises, in its order."""
    parts = [part_of(cell) for cell in read(number).cells]
    return [part[0] for part in parts if part and part[1] == "answer"]


def source_of(name: str, part: str) -> str:
    """The text of an exercise's cell in its notebook."""
    cells = read(EXERCISES[name].notebook).cells
    sources = [cell.source for cell in cells if part_of(cell) == (name, part)]
    if not sources:
        raise ValueError(f"notebook {EXERCISES[name].notebook} has no cell ex-{name}-{part}.")
    return sources[0]


@cache
def import_cell(number: str) -> str:
    """The text of a notebook's import cell, which every answer may rely on: the second one."""
    return [cell.source for cell in read(number).cells if cell.cell_type == "code"][1]


def defined(name: str, text: str):
    """What a text gives an exercise's name, after the notebook's imports."""
    namespace: dict = {"__name__": "answer"}
    exec(import_cell(EXERCISES[name].notebook), namespace)
    exec(text, namespace)
    return namespace[name]


def printed_bug(name: str):
    """The faulty function that an exercise's task prints."""
    code = re.search(r"```python\n(.*?)```", source_of(name, "task"), flags=re.S)
    if not code:
        raise ValueError(f"the task of {name} prints no code.")
    return defined(name, code[1])


def solution(name: str) -> str:
    """The text of an exercise's answer cell, solved: the gap's place between nbgrader's marks."""
    gap, solved = source_of(name, "answer"), SOLUTIONS[name]
    if not solved and not callable(value := ANSWERS[name]["right"][0]):
        solved = f"{name} = {value!r}"
    if solved:
        return "\n".join([gap, BEGIN, solved, END])
    source = inspect.getsource(value)
    head, body = split(source, ast.parse(source).body[0])
    if not gap.startswith(head):
        raise ValueError(f"{name}'s signature or docstring is another in the notebook.")
    return "\n".join([head, f"    {BEGIN}", body.rstrip(), f"    {END}"])


def split(source: str, function: ast.stmt) -> tuple[str, str]:
    """A text up to the end of a function's docstring, and the rest of the function."""
    assert isinstance(function, ast.FunctionDef)
    lines = source.split("\n")
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = first.end_lineno if documented else first.lineno - 1
    return "\n".join(lines[:start]), "\n".join(lines[start : function.end_lineno])


def handed_out(
    number: str, *, only: tuple[str, ...] = (), blank: tuple[str, ...] = (), solved: bool = False
) -> NotebookNode:
    """A notebook with these exercises alone (or all), definitions emptied, or exercises solved.

    Raises ValueError for a name that the notebook does not have.
    """
    notebook, names = read(number), exercises_of(number)
    if unknown := sorted(set(only) - set(names)):
        raise ValueError(
            f"notebook {number} has no exercise {', '.join(unknown)}; it has {', '.join(names)}."
        )
    parts = [(part_of(cell) or ("", ""), cell) for cell in notebook.cells]
    notebook.cells = [cell for (name, _), cell in parts if not (only and name and name not in only)]
    for cell in notebook.cells if solved else []:
        name, part = part_of(cell) or ("", "")
        if part == "answer":
            cell.source = solution(name)
        if part in ("answer", "check"):
            cell.outputs, cell.execution_count = [], None
    for name in blank:
        blank_definition(notebook, name)
    return notebook


def blank_definition(notebook: NotebookNode, name: str) -> None:
    """Empty a woven function or method (`add_noise` or `DiffusionProcess.add_noise`)."""
    for place, cell in enumerate(notebook.cells):
        for owner, function in functions_in(cell):
            if name in (function.name, f"{owner}.{function.name}"):
                own = package_import(cell.source)
                cell.source, cell.outputs = without_body(cell.source, function), []
                words = new_markdown_cell(
                    BLANKED.format(name=name), id=f"blank-{function.name}-words"
                )
                call = check_call(owner, function.name)
                checks = [new_code_cell(call, id=f"blank-{function.name}-check")] if call else []
                after = new_code_cell(own, id=f"blank-{function.name}-own")
                notebook.cells[place : place + 1] = [words, cell, *checks, after]
                return
    taught = [
        f"{owner}.{function.name}" if owner else function.name
        for cell in notebook.cells
        for owner, function in functions_in(cell)
    ]
    raise ValueError(f"{name} is not taught here; expected one of {', '.join(taught)}.")


def functions_in(cell: NotebookNode) -> list[tuple[str, ast.FunctionDef]]:
    """All functions and methods of a woven cell, each with its class's name ("" for none)."""
    if cell.cell_type != "code" or not cell.source.startswith("# source:"):
        return []
    pairs = []
    for node in ast.parse(cell.source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = node.name if isinstance(node, ast.ClassDef) else ""
        pairs += [(owner, each) for each in inside if isinstance(each, ast.FunctionDef)]
    return pairs


def without_body(source: str, function: ast.FunctionDef) -> str:
    """The cell's text with a gap for that function's body; its docstring stays."""
    head, _ = split(source, function)
    gap = [" " * function.body[0].col_offset + line for line in GAP]
    rest = source.split("\n")[function.end_lineno :]
    first, *lines = [*head.split("\n"), *gap, *rest]
    return "\n".join(["# yours to write" + first.removeprefix("# source"), *lines])


def package_import(source: str) -> str:
    """The line that imports what a woven cell defines from the package."""
    path, names = source.split("\n", 1)[0].removeprefix("# source: ").split(": ")
    module = path.removesuffix(".py").replace("/", ".")
    return f"from {module} import {names}  # delete this line to go on with yours"


def check_call(owner: str, name: str) -> str:
    """The line that checks a blanked definition, "" where there is no check for it."""
    taught = {each.name for each in EXERCISES.values() if each.kind == "taught"}
    if name in taught:
        return f"check.{name}({owner}().{name})" if owner else f"check.{name}({name})"
    return f"check.{owner}({owner})" if owner in taught else ""


def split_names(text: str) -> tuple[str, ...]:
    """Names that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(arguments: list[str] | None = None) -> int:
    """Write one notebook; a mistake ends in a sentence, with exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebook", help="its number, such as 03")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write it into")
    parser.add_argument("--exercises", default="", help="these alone, such as linear_alpha_bar")
    parser.add_argument("--blank", default="", help="definitions to empty, such as add_noise")
    parser.add_argument("--solved", action="store_true", help="for you: with all solutions")
    args = parser.parse_args(arguments)
    try:
        only, blank = split_names(args.exercises), split_names(args.blank)
        path = args.to / notebook_path(args.notebook).name
        if path.exists():
            raise ValueError(f"{path} is there already; take another folder, or move it away.")
        notebook = handed_out(args.notebook, only=only, blank=blank, solved=args.solved)
        args.to.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
    except (ValueError, OSError) as error:
        print(f"hand_out: {error}", file=sys.stderr)
        return 2
    print(f"{path} is ready{' for your eyes only' if args.solved else ' to be handed out'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
