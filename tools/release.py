"""The student's version of a notebook, made from the one there is: solutions gone, checks left.

`tools.assignment release` calls it. An exercise's answer cell is known by its id,
`ex-NAME-answer`; what stands between `### BEGIN SOLUTION` and `### END SOLUTION` becomes a gap. A
check on a gap says so kindly, and the notebook goes on.
"""

import ast
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from cdiff_helpers.checks import EXERCISES

HOUSE = Path(__file__).resolve().parent.parent
REGION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.M | re.S)
GAP = 'raise NotImplementedError("There is still a gap here: write it.")'
CELL = re.compile(r"ex-(?P<name>\w+)-(?P<part>task|answer|check)")
BLANKED = (
    "**Yours to write.** The body of `{name}` below is empty: fill it, and let the check speak. "
    "The package holds this definition, too, and shows it to whoever looks: it is there to compare "
    "with afterwards. The notebook goes on with the package's own, so that it runs whether yours "
    "does or not: delete the line that imports it, and it goes on with yours."
)


def notebook_path(number: str) -> Path:
    """The notebook with this number; raises ValueError naming those that there are."""
    found = {path.stem[:2]: path for path in sorted((HOUSE / "notebooks").glob("*.ipynb"))}
    if number not in found:
        raise ValueError(f"there is no notebook {number!r}; expected one of {', '.join(found)}.")
    return found[number]


def part_of(cell: NotebookNode) -> tuple[str, str] | None:
    """(name, part) of an exercise's cell, None for any other."""
    match = CELL.fullmatch(cell.get("id", ""))
    return (match["name"], match["part"]) if match else None


def exercises_of(number: str) -> list[str]:
    """The names of a notebook's exercises, in its order."""
    notebook = nbformat.read(notebook_path(number), as_version=4)
    parts = [part_of(cell) for cell in notebook.cells]
    return [part[0] for part in parts if part and part[1] == "answer"]


def released(number: str, *, blank: tuple[str, ...] = (), only: tuple[str, ...] = ()):
    """The student's notebook. `blank` empties definitions, `only` keeps these exercises alone.

    Raises ValueError for a name that the notebook does not have.
    """
    notebook = nbformat.read(notebook_path(number), as_version=4)
    unknown = set(only) - set(exercises_of(number))
    if unknown:
        raise ValueError(
            f"notebook {number} has no exercise {', '.join(sorted(unknown))}; it has "
            f"{', '.join(exercises_of(number))}."
        )
    kept = []
    for cell in notebook.cells:
        name, part = part_of(cell) or ("", "")
        if only and part and name not in only:
            continue
        if part == "answer":
            empty(cell, name)
        if part in ("answer", "check"):
            cell.outputs, cell.execution_count = [], None
        kept.append(cell)
    notebook.cells = kept
    for name in blank:
        blank_definition(notebook, name)
    return notebook


def empty(cell: NotebookNode, name: str) -> None:
    """Put a gap where the solution was, and unfold the cell."""

    def gap(match: re.Match) -> str:
        indent = match[1]
        return f"{indent}{GAP}" if indent else f"{name} = ...  # your answer"

    cell.source = REGION.sub(gap, cell.source)
    cell.metadata.pop("cellView", None)
    cell.metadata.pop("jupyter", None)


def blank_definition(notebook: NotebookNode, name: str) -> None:
    """Empty a woven function or method (`add_noise` or `DiffusionProcess.add_noise`)."""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.startswith("# source:"):
            continue
        found = definition_in(cell.source, name)
        if found:
            owner, function = found
            own = package_import(cell.source)
            cell.source = without_body(cell.source, function)
            cell.outputs = []
            words = new_markdown_cell(BLANKED.format(name=name), id=f"blank-{function.name}-words")
            new = [words, cell]
            call = check_call(owner, function.name)
            if call:
                new.append(new_code_cell(call, id=f"blank-{function.name}-check"))
            new.append(new_code_cell(own, id=f"blank-{function.name}-own"))
            notebook.cells[place : place + 1] = new
            return
    raise ValueError(f"{name} is not taught here; expected one of {', '.join(taught(notebook))}.")


def definition_in(source: str, name: str) -> tuple[str, ast.FunctionDef] | None:
    """The function or method of that name, and its class's name ("" for none)."""
    for owner, function in functions_in(source):
        if name in (function.name, f"{owner}.{function.name}"):
            return owner, function
    return None


def functions_in(source: str) -> list[tuple[str, ast.FunctionDef]]:
    """All functions and methods of a cell, with their class's name."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.append(("", node))
        elif isinstance(node, ast.ClassDef):
            found += [(node.name, each) for each in node.body if isinstance(each, ast.FunctionDef)]
    return found


def without_body(source: str, function: ast.FunctionDef) -> str:
    """The cell's text with a gap for that function's body; its docstring stays."""
    lines = source.split("\n")
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = first.end_lineno if documented else first.lineno - 1
    indent = " " * first.col_offset
    lines[start : function.end_lineno] = [indent + GAP]
    return "\n".join(["# yours to write" + lines[0].removeprefix("# source"), *lines[1:]])


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


def taught(notebook: NotebookNode) -> list[str]:
    """The names of all definitions that a notebook prints."""
    woven = [c.source for c in notebook.cells if c.source.startswith("# source:")]
    every = [each for source in woven for each in functions_in(source)]
    return [f"{owner}.{node.name}" if owner else node.name for owner, node in every]


def release(number: str, folder: Path, **choices) -> Path:
    """Write the student's notebook into a folder; raises ValueError where one is there already."""
    path = folder / notebook_path(number).name
    if path.exists():
        raise ValueError(f"{path} is there already; take another folder, or move it away first.")
    notebook = released(number, **choices)
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path
