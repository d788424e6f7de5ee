"""Run notebooks and store their outputs.

python -m tools.course.execute [NOTEBOOK …]

All eight by default, at the cpu preset, in place, in a course folder with the data and no runs.
A notebook is written only if every cell ran.
Widget views become stills, the pictures and words that the widget showed; widget state is dropped.
"""

import argparse
import base64
import html
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from cdiff_helpers.runtime import course_home

HOUSE = Path(__file__).resolve().parents[2]
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
MAX_BYTES = 700_000
SVG = re.compile(r'<svg [^>]*aria-label="([^"]*)".*?</svg>', re.DOTALL)
TAG = re.compile(r'<img alt="([^"]*)"[^>]*>|<[^>]+>')


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook after running top to bottom in a fresh kernel of this Python."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    return notebook


def still(models: dict, model_id: str) -> list[nbformat.NotebookNode]:
    """What a widget and its children show, in their order: pictures and words as outputs.

    Words that follow each other make one output. A picture's alternative text is the label's.
    """
    shown = list(leaves(models, model_id))
    alt = next((m["value"] for m, _ in shown if m["_model_name"] == "LabelModel"), "")
    alt, outputs = alt or "a widget's picture", []
    for model, buffer in shown:
        if buffer:
            base64.b64decode(buffer, validate=True)
            data = {"image/png": buffer, "text/plain": f"<Still of a widget: {alt}>"}
            outputs.append(new_output(data, {"image/png": {"alt": alt}}))
        elif model["_model_name"] == "HTMLModel" and model["value"]:
            part = SVG.sub(as_image, model["value"])
            if outputs and "text/html" in outputs[-1].data:
                part = outputs.pop().data["text/html"] + "<br>" + part
            said = html.unescape(TAG.sub(r"\1 ", part)).strip()
            outputs.append(new_output({"text/html": part, "text/plain": said}))
    return outputs


def leaves(models: dict, model_id: str) -> Iterator[tuple[dict, str]]:
    """The state of each widget in a tree that has no children, and its picture (base64) or ""."""
    model = models.get(model_id, {"state": {}})
    children = model["state"].get("children", [])
    buffers = [b["data"] for b in model.get("buffers", []) if b["path"] == ["value"]]
    if not children:
        yield {"_model_name": "", "value": ""} | model["state"], "".join(buffers)
    for child in children:
        yield from leaves(models, child.removeprefix("IPY_MODEL_"))


def as_image(svg: re.Match) -> str:
    """An inline SVG as a picture on white: a notebook that was not run yet shows no other."""
    start = svg[0].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    drawn = start.replace(">", '><rect width="100%" height="100%" fill="white"/>', 1)
    source = base64.b64encode(drawn.encode()).decode()
    return f'<img alt="{svg[1]}" src="data:image/svg+xml;base64,{source}">'


def new_output(data: dict, metadata: dict | None = None) -> nbformat.NotebookNode:
    """An output that shows the data."""
    return nbformat.v4.new_output("display_data", data, metadata=metadata or {})


@contextmanager
def empty_course() -> Iterator[Path]:
    """A course folder with the data of the present one, without its runs: none is gone on with."""
    data = course_home() / "data"
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(data, target_is_directory=True)
        os.environ["CDIFF_HOME"] = folder
        yield Path(folder)


def tidy(notebook: nbformat.NotebookNode, course: Path) -> None:
    """Replace widget views by stills, drop widget state, timings and absolute paths."""
    models = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    places = {str(course): "~/.cdiff", str(Path.home()): "~"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        outputs = []
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(VIEW)
            outputs += still(models, view["model_id"]) if view else [output]
        for output in outputs:
            data = output.get("data", {})
            for holder, key in ((output, "text"), (data, "text/plain"), (data, "text/html")):
                for place, told in places.items() if key in holder else ():
                    holder[key] = holder[key].replace(place, told)
        if cell.cell_type == "code":
            cell.outputs = outputs
    notebook.metadata.get("language_info", {}).pop("version", None)


def execute(path: Path, course: Path, *, write: bool) -> bool:
    """Run one notebook and write it, if it ran through and is small enough: whether it did."""
    start = time.monotonic()
    try:
        notebook = run(path.resolve())
    except CellExecutionError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return False
    tidy(notebook, course)
    size = len(nbformat.writes(notebook).encode())
    print(f"{path.name}: {time.monotonic() - start:.0f} s, {size / 1e3:.0f} kB", flush=True)
    if size > MAX_BYTES:
        print(f"{path.name}: {size:,} bytes, more than {MAX_BYTES:,}", file=sys.stderr)
    elif write:
        nbformat.write(notebook, path)
    return size <= MAX_BYTES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all eight if none is given")
    parser.add_argument("--preset", default="cpu", help="of the run: cpu (the default) or gpu")
    parser.add_argument("--check", action="store_true", help="run, but write nothing")
    args = parser.parse_args()
    os.environ["CDIFF_PRESET"] = args.preset
    failed = 0
    with empty_course() as course:
        for path in args.notebooks or sorted((HOUSE / "notebooks").glob("*.ipynb")):
            failed += not execute(path, course, write=not args.check)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
