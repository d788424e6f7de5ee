"""The house: who may import whom, one definition each, lists that agree, cells that are woven."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

import nbformat
import pytest

from tests.support.notebooks import HOUSE, NOTEBOOKS, as_python, cells, is_woven
from tools.course import weave

PACKAGE = HOUSE / "cdiff_helpers"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
BOTTOM = {"console", "defaults", "validation"}  # for every room; the first two without torch
MAY_IMPORT = {
    "validation": set(),
    "console": set(),
    "defaults": set(),
    "__init__": {"reference"},
    "runtime": set(),
    "data": {"runtime"},
    "diffusion": set(),
    "unet": {"diffusion"},
    "training": {"diffusion", "unet", "runtime", "data"},
    "sampling": {"runtime", "data", "diffusion"},
    "visualization": {"data", "diffusion", "sampling"},
    "widgets": {"runtime", "data", "diffusion", "sampling", "visualization"},
    "reference": {"runtime", "diffusion", "unet"},
    "evaluation": {"runtime", "data", "visualization"},
    "parallel": {"runtime", "training"},
    "options": {"commands"},  # once it is understood what was typed
    "commands": set(NAMES.values()) - {"__main__", "options"},
    "__main__": {"options"},
}
EXCEPTIONS = {"runtime/report.py": {"diffusion", "unet", "training"}}  # it times a training step


ARROWS = {  # which rooms a room may import besides itself; the most special ones last
    "cdiff_helpers": set(),
    "notebooks": {"cdiff_helpers", "cdiff_exercises"},
    "exercises": {"cdiff_helpers", "cdiff_exercises"},
    "exercises/cdiff_exercises": {"cdiff_helpers"},
    "tools": {"cdiff_helpers"},
    "benchmarks": {"cdiff_helpers"},
    "tests": {"cdiff_helpers", "cdiff_exercises", "exercises", "tools", "benchmarks"},
}
ARROWS["exercises/tests"] = ARROWS["tests"] | {"tests"}
PROGRAMS = {  # by file: its room and its texts, a notebook's cells among them
    path.relative_to(HOUSE).as_posix(): (room, [path.read_text(encoding="utf-8")])
    for room in ARROWS
    for path in sorted((HOUSE / room).rglob("*.py"))
} | {path.name: ("notebooks", [as_python(c) for c in cells(path, "code")]) for path in NOTEBOOKS}
ROOMS = {room.split("/")[-1] for room in ARROWS}
PROGRAMS["conftest.py"] = ("tests", [(HOUSE / "conftest.py").read_text(encoding="utf-8")])
INSIDE = {Path(name).stem for name in PROGRAMS} | {Path(name).parent.name for name in PROGRAMS}
BARE = INSIDE - ROOMS - sys.stdlib_module_names  # no import begins with these
BY_PATH = r"sys\.path\b|[s]yspath_prepend|spec_from_[f]ile|[r]un_path|[a]ddsitedir"
FIRST_CELL = "tools/course/publish.py"  # writes the notebooks' own, which may lie beside the course
MOST_PARAMETERS = {"guided_noise": 6}  # the contract's; four for all others


def definitions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_up_the_table_only(path):
    imported = {
        node.module.split(".")[1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cdiff_helpers.")
    }
    allowed = MAY_IMPORT[NAMES[path]] | EXCEPTIONS.get(path.relative_to(PACKAGE).as_posix(), set())
    inside = {NAMES[path]} if path.parent != PACKAGE else set()  # a folder's files know each other
    assert imported <= allowed | inside | BOTTOM


@pytest.mark.parametrize("name", PROGRAMS)
def test_rooms_import_the_package_and_never_back(name):
    room, texts = PROGRAMS[name]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    modules = [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    modules += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    imported = {module.split(".")[0] for module in modules}
    assert imported & ROOMS <= ARROWS[room] | {room.split("/")[-1]}
    assert not imported & BARE, "by its whole name, such as tools.course.weave"


def test_nothing_is_imported_by_its_path():
    for name, (_, texts) in PROGRAMS.items():
        if name != FIRST_CELL and not name.endswith(".ipynb"):
            assert not re.search(BY_PATH, texts[0]), name


def test_tools_are_run_as_modules():
    for path in (*HOUSE.glob("*.md"), *HOUSE.glob("*/*.md"), HOUSE / ".ci" / "run"):
        by_path = re.search(
            r"python3? \S*(tools|exercises|benchmarks|tests)/\S+", path.read_text("utf-8")
        )
        assert not by_path, f"{path.name}: {by_path}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_say_what_you_get_and_functions_are_short(path):
    for node in definitions(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 45, f"{node.name} is long"
            plain = [a.arg for a in node.args.posonlyargs + node.args.args]
            required = len(plain) - len(node.args.defaults) - ("self" in plain[:1])
            assert required <= MOST_PARAMETERS.get(node.name, 4), f"{node.name} takes {plain}"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.stem}.{node.name} has no docstring"


def test_the_median_function_has_at_most_eight_lines():
    lengths = [
        node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in definitions(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert statistics.median(lengths) <= 8


def test_every_idea_is_defined_once():
    homes = {}
    for path in (path for path in MODULES if path.stem != "__main__"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "__getattr__":
                assert node.name not in homes, f"{node.name} in {homes[node.name]} and {path.stem}"
                homes[node.name] = path.stem
    for path in NOTEBOOKS:
        for cell in cells(path, "code"):
            if not is_woven(cell):
                again = {n.name for n in definitions(ast.parse(as_python(cell)))} & set(homes)
                assert not again, f"{path.stem} defines {again} by hand"


def test_no_cell_has_drifted_from_the_package():
    done = subprocess.run(
        [sys.executable, "-m", "tools.course.weave"],
        cwd=HOUSE,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout


def test_a_drifted_cell_is_named_and_mended(tmp_path):
    header = "# source: cdiff_helpers/diffusion.py: look_up, MAX_BETA"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(header + "\nold = 1")])
    nbformat.write(notebook, tmp_path / "x.ipynb")
    assert weave.weave(tmp_path / "x.ipynb", write=False) == [header]
    assert "old = 1" in (tmp_path / "x.ipynb").read_text(encoding="utf-8")
    assert weave.weave(tmp_path / "x.ipynb", write=True) == [header]
    assert weave.weave(tmp_path / "x.ipynb", write=False) == []
    mended = cells(tmp_path / "x.ipynb")[0].source
    assert "def look_up(" in mended and "\nMAX_BETA = 0.999" in mended
    with pytest.raises(ValueError, match="does not define nothing"):
        weave.definition(PACKAGE / "diffusion.py", "nothing")


def test_the_two_lists_of_dependencies_agree():
    lines = (HOUSE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert all(re.search(r"\S\s+# .{8,}", line) for line in entries), (
        "each line says what it is for"
    )
    listed = {line.split("#")[0].strip() for line in entries}
    own = set(
        tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "dependencies"
        ]
    )
    assert own <= listed and "-e ." in listed
    assert not [name for name in own if name.startswith("jupyter") or "==" in name or "<" in name]


def test_the_oldest_versions_that_are_tried_are_the_floors():
    own = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (HOUSE / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tried = {line.removesuffix(".*") for line in lines if not line.startswith(("#", "pyparsing"))}
    assert tried == {floor.replace(">=", "==") for floor in own["dependencies"]}
    sessions = (HOUSE / "noxfile.py").read_text(encoding="utf-8")
    assert f'python="{own["requires-python"].removeprefix(">=")}"' in sessions
    for name in ("oldest", "colab", "kaggle"):
        assert f"constraints-{name}.txt" in sessions


def test_conda_has_no_list_of_its_own():
    text = (HOUSE / "environment.yml").read_text(encoding="utf-8")
    assert re.findall(r"^\s+- (?!conda-forge)(.+)$", text, flags=re.M) == [
        "python>=3.10", "pip", "pip:", "-r requirements.txt",
    ]  # fmt: skip


def test_the_readme_gives_both_commands_and_all_notebooks():
    text = (HOUSE / "README.md").read_text(encoding="utf-8")
    first = "pip install -r requirements.txt && jupyter lab notebooks/01_libraries_and_gpu.ipynb"
    assert first in text and "\npip install -r requirements.txt && pytest\n" in text
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in text
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (HOUSE / target).exists(), target


def test_nothing_shows_matplotlib_through_an_output_widget():
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert not names & {"Output", "interact", "interactive", "clear_output"}, path.stem


def test_lint_and_format_are_clean():
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            cwd=HOUSE,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout
