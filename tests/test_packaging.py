"""What is shipped: the archives, the shell in them, and the texts that name the version."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import cdiff_helpers
from tests.support.notebooks import HOUSE

PYTHON = sys.executable
BUILD = """
import sys
from setuptools import build_meta
folder, *kinds = sys.argv[1:]
for kind in kinds:
    getattr(build_meta, f"build_{kind}")(folder)
"""
SAMPLE = "sample --classes cat --per-class 1 --num-steps 2 --device cpu --out"
WHOSE = (
    "import cdiff_helpers as c, importlib.metadata as m; print(c.__file__, m.version(c.__name__))"
)


def run(*words, **options):
    """The lines that a command writes; it has to succeed."""
    options |= {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run([str(word) for word in words], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_version_citation_and_changes_agree():
    version, citation = cdiff_helpers.__version__, (HOUSE / "CITATION.cff").read_text("utf-8")
    date = re.search(r'^date-released: "(\d{4}-\d\d-\d\d)"$', citation, re.M)[1]
    changes = (HOUSE / "CHANGELOG.md").read_text("utf-8")
    assert f"\nversion: {version}\n" in citation
    assert re.findall(r"^## (.+)$", changes, re.M)[0] == f"{version} · {date}"
    assert 'dynamic = ["version"]' in (HOUSE / "pyproject.toml").read_text("utf-8")
    assert "http" not in re.sub(r"# published.*?# /published", "", citation, flags=re.S)


def built(source, folder, *kinds):
    """The archives that setuptools makes of the source, where warnings are errors."""
    run(PYTHON, "-W", "error", "-c", BUILD, folder, *kinds, cwd=source)
    endings = {"sdist": "*.tar.gz", "wheel": "*.whl"}
    return [next(folder.glob(endings[kind])) for kind in kinds]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The repository's files, the source archive of them, its wheel, and the wheel made of that."""
    folder = tmp_path_factory.mktemp("archives")
    names = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=HOUSE)[0].split("\0")[:-1]
    names = [name for name in names if (HOUSE / name).is_file()]
    for name in names:
        target = folder / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOUSE / name, target)
    (folder / "tree/cdiff_helpers/__pycache__").mkdir()
    (folder / "tree/cdiff_helpers/__pycache__/old.pyc").touch()
    sdist, wheel = built(folder / "tree", folder, "sdist", "wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    (again,) = built(unpacked, folder / "again", "wheel")
    return names, unpacked, wheel, again


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_nothing_else(archives):
    names, _, *wheels = archives
    public = ("cdiff_helpers/", "exercises/cdiff_exercises/")
    package = {name.removeprefix("exercises/") for name in names if name.startswith(public)}
    for wheel in wheels:  # from the repository, and from the source archive
        packed = set(zipfile.ZipFile(wheel).namelist())
        about = {name for name in packed if ".dist-info/" in name}
        assert packed - about == package
        assert f"cdiff_helpers-{cdiff_helpers.__version__}.dist-info/licenses/LICENSE" in about


@pytest.mark.slow
def test_the_source_archive_holds_what_a_reader_needs_and_no_half_of_the_tests(archives):
    names, unpacked, *_ = archives
    packed = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    public = ("cdiff_helpers/", "exercises/cdiff_exercises/", "notebooks/")
    wanted = {name for name in names if name.startswith(public)}
    assert wanted | {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= packed
    private = ("tests", "tools", "exercises/private", "exercises/tests")
    assert not [name for name in packed if name.startswith(private) or "pyc" in name]


@pytest.mark.slow
def test_the_installed_shell_draws_in_a_folder_of_any_name_on_a_console_of_any_kind(
    archives, tmp_path
):
    """The wheel's module, not this folder's; umlauts in the folder, none on the console."""
    site, folder = tmp_path / "site", tmp_path / "köln öffnen"
    folder.mkdir()
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    run(PYTHON, *install, site, archives[2])
    env = {**os.environ, "PYTHONPATH": str(site), "CDIFF_HOME": str(tmp_path / "home")}
    options = {"cwd": folder, "env": env | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}}
    (line,) = run(PYTHON, "-c", WHOSE, **options)
    assert line == f"{site / 'cdiff_helpers' / '__init__.py'} {cdiff_helpers.__version__}"
    script = next(path for path in site.glob("*/*") if path.stem == "cdiff")  # on Windows .exe
    for number, shell in enumerate(((PYTHON, "-m", "cdiff_helpers"), (script,))):
        run(*shell, *SAMPLE.split(), f"Kätzchen {number} ü.png", **options)
        assert (folder / f"Kätzchen {number} ü.png").read_bytes().startswith(b"\x89PNG")
    assert run(script, "--version", **options) == [f"cdiff-helpers {cdiff_helpers.__version__}"]
