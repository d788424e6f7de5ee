"""Keep the taught definitions equal to the package.

python -m tools.course.weave [--write]

A notebook cell whose first line is `# source: cdiff_helpers/diffusion.py: DiffusionProcess` holds
that definition's text, and nothing else. Several names may be given, with commas; a module's
constant counts as a definition. Without --write, stale cells are named and the exit status is 1.
"""

import argparse
import ast
import itertools
import re
import sys
from pathlib import Path

import nbformat

HOUSE = Path(__file__).resolve().parents[2]
HEADER = re.compile(r"# source: (?P<path>\S+): (?P<names>[\w, .]+)")


def definition(path: Path, name: str) -> str:
    """The text of one function, class, method (`Class.method`) or constant, decorators included."""
    text = path.read_text(encoding="utf-8")
    body = ast.parse(text).body
    for part in name.split("."):
        found = [node for node in body if part in names_of(node)]
        if not found:
            raise ValueError(f"{path} does not define {name}; is the cell's first line right?")
        node, body = found[0], getattr(found[0], "body", [])
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    lines = text.split("\n")[first - 1 : node.end_lineno]
    return "\n".join(line.removeprefix(" " * node.col_offset) for line in lines)


def names_of(node: ast.AST) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def woven(source: str) -> str | None:
    """What a cell should hold, or None for a cell that is not woven."""
    header = source.split("\n", 1)[0]
    match = HEADER.fullmatch(header)
    if not match:
        return None
    names = [name.strip() for name in match["names"].split(",")]
    parts = [definition(HOUSE / match["path"], name) for name in names]
    text = header + "\n" + parts[0]
    for before, part in itertools.pairwise(parts):
        constants = "\n" not in before + part
        text += ("\n" if constants else "\n\n\n") + part
    return text


def weave(path: Path, *, write: bool) -> list[str]:
    """The headers of a notebook's stale cells, which are mended where `write` says so."""
    notebook = nbformat.read(path, as_version=4)
    stale = []
    for cell in notebook.cells:
        wanted = woven(cell.source) if cell.cell_type == "code" else None
        if wanted is not None and wanted != cell.source:
            stale.append(cell.source.split("\n", 1)[0])
            cell.source = wanted
    if stale and write:
        nbformat.write(notebook, path)
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="mend the stale cells")
    write = parser.parse_args().write
    count = 0
    for path in sorted((HOUSE / "notebooks").glob("*.ipynb")):
        for header in weave(path, write=write):
            print(f"{path.name}: {header[2:]} {'mended' if write else 'is stale'}")
            count += 1
    if count and not write:
        print("python -m tools.course.weave --write mends them.")
    return int(bool(count) and not write)


if __name__ == "__main__":
    sys.exit(main())
