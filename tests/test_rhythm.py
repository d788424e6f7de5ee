"""How a notebook reads, as far as a program can tell."""

import ast
import re

import pytest

from tests.support.notebooks import NAMES, NOTEBOOKS, as_python, cells, is_woven

BANNED_WORDS = re.compile(
    r"\b(simply|just|obviously|easy|easily|trivial|trivially|of course)\b", re.I
)
BANNED_CODE = ("!pip", "%pip", "%cd", "clear_output", "widgets.Output", "interact(", "plt.show")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])


def words(text: str) -> int:
    """The words of a text cell's prose: formulas, headings, tables, lists and code count not.

    Nor do folded hints, which come one at a time.
    """
    text = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    lines = [x for x in text.split("\n") if not re.match(r"\s*([#|>]|[-*] |\d+\. )", x)]
    return len(" ".join(lines).split())


def test_the_eight_notebooks_are_there():
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES


@each_notebook
def test_a_notebook_opens_with_title_links_promise_and_imports(path):
    title, promise, bootstrap, imports = cells(path)[:4]
    number = NAMES.index(path.stem)
    assert title.source.startswith(f"# {path.stem[:2]} · ")
    for neighbor in {*NAMES[max(number - 1, 0) : number + 2]} - {path.stem}:
        assert f"]({neighbor}.ipynb)" in title.source
    assert "@@" not in title.source
    assert re.search(r"\d.*(minute|second)", title.source), "how long does it take?"
    assert promise.source.startswith("**You will be able to**")
    assert len(re.findall(r"^- ", promise.source, flags=re.M)) == 3
    assert bootstrap.id == "bootstrap"
    assert len([line for line in bootstrap.source.split("\n") if line]) <= 9
    assert imports.cell_type == "code" and "import" in imports.source


@each_notebook
def test_a_notebook_closes_with_recap_things_to_try_and_a_question(path):
    texts = [cell.source for cell in cells(path, "markdown")]
    recap = next(i for i, text in enumerate(texts) if text.startswith("## Recap"))
    attempts = next(i for i, text in enumerate(texts) if text.startswith("## Try it"))
    assert recap < attempts < len(texts) - 1
    assert "|" in "".join(texts[recap:attempts])
    for kind in ("**Guess**", "**Change**", "**Build**"):
        assert kind in "".join(texts[attempts:])


@each_notebook
def test_three_to_six_sections_and_at_least_two_guesses(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    headings = re.findall(r"^## (.+)$", text, flags=re.M)
    sections = [heading for heading in headings if heading not in ("Recap", "Try it", "Exercises")]
    assert 3 <= len(sections) <= 6
    assert text.count("**Guess first**") >= 2


@each_notebook
def test_code_cells_are_short_and_seldom_stand_together(path):
    run, every = 0, cells(path)
    imports = every[3]
    for cell in every:
        run = run + 1 if cell.cell_type == "code" else 0
        assert run <= 2, f"a third code cell in a row: {cell.source[:60]}"
        if cell.cell_type == "code":
            limit = 60 if is_woven(cell) else 40 if cell is imports else 25
            assert cell.source.count("\n") + 1 <= limit, cell.source[:60]


@each_notebook
def test_text_cells_have_one_thought(path):
    for cell in cells(path, "markdown"):
        assert words(cell.source) <= 120, cell.source[:80]


@each_notebook
def test_four_code_cells_in_ten_show_something(path):
    shown = [bool(cell.outputs) for cell in cells(path, "code")]
    assert sum(shown) >= 0.4 * len(shown)


@each_notebook
def test_no_word_talks_down_and_no_cell_needs_a_shell(path):
    for cell in cells(path):
        if cell.cell_type == "markdown":
            found = BANNED_WORDS.search(cell.source)
            assert not found, f"{found[0]!r} in: {cell.source[:80]}"
            assert "data:image" not in cell.source
        elif cell.id != "bootstrap":
            assert not [word for word in BANNED_CODE if word in cell.source], cell.source[:80]


@each_notebook
def test_the_package_is_imported_in_the_import_cell_alone(path):
    """A definition that a cell taught is the notebook's own from there on: edits count."""
    for cell in cells(path, "code")[2:]:
        for node in [] if is_woven(cell) else ast.walk(ast.parse(as_python(cell))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                raise AssertionError(f"{module} is imported in the middle of {path.stem}")


@each_notebook
def test_the_import_cell_can_be_read_by_a_newcomer(path):
    """At most 30 names, and of the package none that only a woven cell's text mentions."""
    imports, *rest = cells(path, "code")[1:]
    nodes = [
        n for n in ast.walk(ast.parse(imports.source)) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {
        a.asname or a.name: getattr(n, "module", None) or a.name for n in nodes for a in n.names
    }
    assert len(names) <= 30
    own = [ast.parse(as_python(cell)) for cell in [imports, *rest] if not is_woven(cell)]
    used = {node.id for tree in own for node in ast.walk(tree) if isinstance(node, ast.Name)}
    texts = "\n".join(cell.source for cell in cells(path, "markdown"))
    quoted = "".join(re.findall(r"`[^`]+`", re.sub(r"```.*?```", "", texts, flags=re.S)))
    used |= set(re.findall(r"\w+", quoted))
    of_the_package = {name for name, module in names.items() if module.startswith("cdiff_helpers")}
    unused = of_the_package - used
    assert not unused, "only woven cells use these"
