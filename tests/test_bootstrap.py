"""A notebook's first cell finds the course, or installs it where there is none."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from notebooks import HOUSE, NOTEBOOKS, cells

CELL = cells(NOTEBOOKS[0], "code")[0].source
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


def archive(path):
    """The project as a host of code hands it out: one folder in a zip."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, text=True)
    with zipfile.ZipFile(path, "w") as made:
        for name in filter(None, listed.stdout.split("\0")):
            if (HOUSE / name).is_file() and not name.startswith(("notebooks/", "benchmarks/")):
                made.write(HOUSE / name, f"course-main/{name}")
    return path


@pytest.mark.slow
def test_a_lone_notebook_on_a_colab_installs_the_course_and_runs(tmp_path):
    """A new environment with a torch that is there already, google.colab, and nothing beside."""
    environment, alone = tmp_path / "environment", tmp_path / "alone"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    there = Path(
        nbformat.__file__
    ).parent.parent  # torch, IPython …: an editable course is not seen
    (site / "platform.pth").write_text(f"{there}\n")
    (site / "google" / "colab").mkdir(parents=True)
    for part in ("google", "google/colab"):
        (site / part / "__init__.py").touch()
    alone.mkdir()
    notebook = alone / NOTEBOOKS[0].name
    address = archive(tmp_path / "course.zip").as_uri()
    text = NOTEBOOKS[0].read_text(encoding="utf-8")
    start = text.index("https://github.com", text.index("COURSE = "))
    notebook.write_text(text[:start] + address + text[text.index(".zip", start) + 4 :], "utf-8")
    code = (
        "import google.colab, importlib.util, nbformat, nbclient\n"
        "assert importlib.util.find_spec('cdiff_helpers') is None\n"
        f"nb = nbformat.read({str(notebook)!r}, 4)\n"
        "nbclient.NotebookClient(nb, timeout=300, kernel_name='python3').execute()\n"
        "import cdiff_helpers, torch\n"
        "print(cdiff_helpers.__file__, torch.__file__)\n"
    )
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", code], cwd=alone, text=True,
        capture_output=True, env=kernel_of(environment) | {"CDIFF_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    course, torch = done.stdout.split()
    assert course.startswith(str(site)) and torch.startswith(str(there))
    assert not list(site.glob("torch*")) and not list(site.glob("numpy*"))


def kernel_of(environment):
    """The environment's variables, with a kernel specification that starts its own Python."""
    kernels = environment / "share" / "jupyter" / "kernels"
    shutil.rmtree(kernels, ignore_errors=True)
    (kernels / "python3").mkdir(parents=True)
    words = f'["{environment}/bin/python", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernels / "python3" / "kernel.json").write_text(
        f'{{"argv": {words}, "display_name": "Python 3", "language": "python"}}'
    )
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "JUPYTER_PATH": str(environment / "share" / "jupyter")
    }
