"""Run each notebook alone, as on a platform.

python -m tools.course.alone [--as colab] [NOTEBOOK …]

In the Python that runs this, from which an installed course is removed first: the notebook lies
in an empty folder, as it would be published, its first cell installs the course (this checkout, as
a zip that a server on this machine hands out in place of the code host), and all its cells are run
at the reduced preset. What was installed before, torch above all, must be unchanged afterwards.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools.course import publish

HOUSE = Path(__file__).resolve().parents[2]
MARKS = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
    "nowhere": {},
}
LEFT_OUT = ("notebooks/", "benchmarks/", "tests/", "images/")
HOST = "https://github.com"
ADDRESS = publish.Address("owner/course", "v0")


def archive(path: Path) -> None:
    """Write the project as a zip with one folder in it, as hosts of code make them."""
    path.parent.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, encoding="utf-8", check=True
    )
    with zipfile.ZipFile(path, "w") as made:
        for name in filter(None, listed.stdout.split("\0")):
            if (HOUSE / name).is_file() and not name.startswith(LEFT_OUT):
                made.write(HOUSE / name, f"course-0/{name}")


@contextmanager
def host(folder: Path) -> Iterator[str]:
    """Serve the zip of the course as a code host does: the address in place of the host's."""
    archive(folder / ADDRESS.archive.removeprefix(f"{HOST}/"))
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def lone_copy(path: Path, folder: Path, server: str) -> Path:
    """The notebook as published, alone in a folder, asking that server for the course."""
    text = publish.rendered(path.name, path.read_text(encoding="utf-8"), ADDRESS)
    copy = folder / path.name
    copy.write_text(text.replace(HOST, server), encoding="utf-8")
    return copy


def installed() -> dict[str, str]:
    """Every distribution of this Python and its version, the course left out."""
    importlib.invalidate_caches()
    found = {each.metadata["Name"].lower(): each.version for each in metadata.distributions()}
    return {name: number for name, number in found.items() if name != "cdiff-helpers"}


def stand_in(folder: Path) -> None:
    """A google.colab that is imported when Python starts, as it is there."""
    (folder / "google" / "colab").mkdir(parents=True)
    for part in ("google", "google/colab"):
        (folder / part / "__init__.py").touch()
    (folder / "sitecustomize.py").write_text("import google.colab\n", encoding="utf-8")


def remove_course() -> None:
    """Uninstall the course from this Python, if it is there."""
    words = [sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet", "cdiff-helpers"]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)


def run(path: Path, server: str) -> float:
    """Run a copy of the notebook in an empty folder: seconds. Raises CellExecutionError."""
    remove_course()
    with tempfile.TemporaryDirectory() as folder:
        copy = lone_copy(path, Path(folder), server)
        start = time.monotonic()
        client = NotebookClient(
            nbformat.read(copy, as_version=4), timeout=600, kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )  # fmt: skip
        client.execute()
        return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all eight if none is given")
    parser.add_argument("--as", dest="platform", choices=MARKS, default="nowhere")
    args = parser.parse_args()
    os.environ |= MARKS[args.platform] | {"CDIFF_PRESET": "reduced", "OMP_NUM_THREADS": "2"}
    os.environ["NO_PROXY"] = "127.0.0.1"
    os.environ.pop("PYTHONPATH", None)
    before = installed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CDIFF_HOME"] = str(folder / "home")
        if args.platform == "colab":
            stand_in(folder / "colab")
            os.environ["PYTHONPATH"] = str(folder / "colab")
        with host(folder / "host") as server:
            for path in args.notebooks or sorted((HOUSE / "notebooks").glob("*.ipynb")):
                print(f"{path.name}: {run(path, server):.0f} s", flush=True)
    after = installed()
    changed = {name for name in before if after.get(name) != before[name]}
    for name in sorted(changed):
        print(f"{name} was {before[name]}, is {after.get(name)}: it was replaced", file=sys.stderr)
    added = sorted(set(after) - set(before))
    print(f"torch {after['torch']} as before; installed besides: {', '.join(added) or 'nothing'}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
