"""A notebook's first cell finds the course, or installs it where there is none."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from notebooks import HOUSE, NOTEBOOKS, as_python, cells

CELL = as_python(cells(NOTEBOOKS[0], "code")[0])
RECORDING = """
class Shell:
    def run_line_magic(self, *words):
        print("asked for:", *words)
def get_ipython():
    return Shell()
"""


def first_cell(folder, *places):
    """What the cell asks IPython for, in a Python that sees nothing but these places."""
    folder.mkdir(parents=True, exist_ok=True)
    known = f"import sys\nsys.path += {[str(place) for place in places]}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", known + RECORDING + CELL],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_course_beside_the_notebook_is_found(tmp_path):
    (tmp_path / "cdiff_helpers").mkdir()
    (tmp_path / "cdiff_helpers" / "__init__.py").touch()
    assert first_cell(tmp_path / "notebooks") == ""


def test_an_installed_course_is_found(tmp_path):
    (tmp_path / "site" / "cdiff_helpers").mkdir(parents=True)
    (tmp_path / "site" / "cdiff_helpers" / "__init__.py").touch()
    assert first_cell(tmp_path / "alone", tmp_path / "site") == ""


def test_a_lone_notebook_installs_it_and_replaces_nothing(tmp_path):
    asked = first_cell(tmp_path / "alone")
    assert asked.startswith("asked for: pip install --quiet https://github.com/")
    assert asked.endswith(".zip") and "--upgrade" not in asked and "--force" not in asked


@pytest.mark.slow
def test_a_lone_notebook_on_a_colab_installs_the_course_and_runs(tmp_path):
    """A new environment with a torch that is there already, google.colab, and nothing beside."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    there = Path(nbformat.__file__).parent.parent  # torch, IPython …; an editable course is no part
    (site / "platform.pth").write_text(f"{there}\n")
    done = subprocess.run(
        [str(environment / "bin" / "python"), "tools/alone.py", "--as", "colab", NOTEBOOKS[0]],
        cwd=HOUSE, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{NOTEBOOKS[0].name}: " in done.stdout and "as before" in done.stdout
    assert (site / "cdiff_helpers" / "__init__.py").is_file()  # the cell has put it here
    assert not list(site.glob("torch*")) and not list(site.glob("numpy*"))
