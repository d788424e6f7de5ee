"""A notebook's first cell finds the course, and else says how to get it, or installs it."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.support.notebooks import HOUSE, NOTEBOOKS, as_python
from tests.support.systems import REASON
from tools.course.publish import Address, first_cell

PUBLISHED = Address("owner/course", "v0.2.0")
STATES = pytest.mark.parametrize("address", [None, PUBLISHED], ids=["unpublished", "published"])
REMEDY = (
    "The course's packages are missing: upload cdiff_helpers and cdiff_exercises, or a wheel of "
    "both (`pip wheel --no-deps .`)."
)
PACKAGES = ("cdiff_helpers", "exercises/cdiff_exercises")
RECORDING = """
class Shell:
    def run_line_magic(self, *request):
        print("asked for:", *request)
def get_ipython():
    return Shell()
"""


def run_alone(address, folder, *places, before=""):
    """Run the first cell in a Python that sees nothing but these places: its process."""
    folder.mkdir(parents=True, exist_ok=True)
    cell = as_python(nbformat.v4.new_code_cell(first_cell(address)))
    program = folder.parent / "program" / "cell.py"  # its folder, and not `folder`, is on the path
    program.parent.mkdir()
    program.write_text(before + RECORDING + cell, encoding="utf-8")
    known = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
    return subprocess.run(
        [sys.executable, "-S", program],
        cwd=folder, env=known, capture_output=True, encoding="utf-8",
    )  # fmt: skip


def is_silent(done):
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


@STATES
def test_the_course_beside_the_notebook_is_found(address, tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    assert is_silent(run_alone(address, tmp_path / "notebooks"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason=REASON)
def test_a_strangers_folder_above_is_not_imported(tmp_path):
    """Whoever runs a notebook trusts its folder's owner and the administrator, and nobody else."""
    package = tmp_path / "cdiff_helpers"
    package.mkdir()
    (package / "__init__.py").write_text("print('a stranger ran')", encoding="utf-8")
    code = "import os, pathlib; real = pathlib.Path.lstat\n" + (
        "def lstat(path):\n    values = list(real(path)); values[4] += 1\n"
        "    return os.stat_result(values)\npathlib.Path.lstat = lstat\n"
    )
    done = run_alone(None, tmp_path / "notebooks", before=code)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(REMEDY)
    assert "a stranger ran" not in done.stdout


@STATES
def test_an_installed_course_is_found(address, tmp_path):
    for package in PACKAGES:
        place = tmp_path / "site" / package.split("/")[-1]
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
    assert is_silent(run_alone(address, tmp_path / "alone", tmp_path / "site"))


def test_a_lone_notebook_of_an_unpublished_course_says_how_to_get_it(tmp_path):
    done = run_alone(None, tmp_path / "alone")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {REMEDY}"
    assert done.stderr.count("File ") == 1  # one frame, the cell's own


def test_a_lone_notebook_of_a_published_course_installs_the_tag_and_replaces_nothing(tmp_path):
    done = run_alone(PUBLISHED, tmp_path / "alone")
    zipped = "https://github.com/owner/course/archive/refs/tags/v0.2.0.zip"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"asked for: pip install --quiet {zipped}\n"


@pytest.mark.slow
def test_a_published_notebook_on_a_colab_installs_the_course_and_runs(tmp_path):
    """A new environment with a torch that is there already, google.colab, and nothing beside."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    there = Path(nbformat.__file__).parent.parent  # torch, IPython …; an editable course is no part
    (site / "platform.pth").write_text(f"{there}\n", "utf-8")
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "tools.course.alone", "--as", "colab", NOTEBOOKS[0]],
        cwd=HOUSE, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"GET /owner/course/archive/refs/tags/v0.zip HTTP/1.1" 200' in done.stderr
    assert f"{NOTEBOOKS[0].name}: " in done.stdout and "as before" in done.stdout
    assert (site / "cdiff_helpers" / "__init__.py").is_file()  # the cell has put it here
    assert not list(site.glob("torch*")) and not list(site.glob("numpy*"))
