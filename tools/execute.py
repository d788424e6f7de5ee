"""Run notebooks and store their outputs: python tools/execute.py [NOTEBOOK …]

All eight by default, at the cpu preset, in place. A notebook is written only if every cell ran.
Widget views become the still picture that the widget showed; widget state is dropped.
"""

import argparse
import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HOUSE = Path(__file__).resolve().parent.parent
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
MAX_BYTES = 700_000


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


def still(models: dict, model_id: str) -> list[str]:
    """The PNGs (base64) that a widget and its children show."""
    model = models.get(model_id, {"state": {}})
    images = [b["data"] for b in model.get("buffers", []) if b["path"] == ["value"]]
    children = model["state"].get("children", [])
    return images + [p for c in children for p in still(models, c.removeprefix("IPY_MODEL_"))]


def words(models: dict, model_id: str) -> str:
    """What the label beside a widget's picture says."""
    model = models.get(model_id, {"state": {}})["state"]
    below = [words(models, c.removeprefix("IPY_MODEL_")) for c in model.get("children", [])]
    own = model["value"] if model.get("_model_name") == "LabelModel" else ""
    return own or next(filter(None, below), "")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Replace widget views by still pictures, drop widget state, timings and absolute paths."""
    models = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    home = str(Path.home())
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if VIEW in data:
                model_id = data.pop(VIEW)["model_id"]
                pictures = still(models, model_id)
                base64.b64decode(pictures[0], validate=True)
                data["image/png"] = pictures[0]
                alt = words(models, model_id) or "a widget's picture"
                data["text/plain"] = f"<Still of a widget: {alt}>"
                output.metadata["image/png"] = {"alt": alt}
            for holder, key in ((output, "text"), (data, "text/plain")):
                if key in holder:
                    holder[key] = holder[key].replace(home, "~")
    notebook.metadata.get("language_info", {}).pop("version", None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all eight if none is given")
    parser.add_argument("--preset", default="cpu", help="of the run: cpu (the default) or gpu")
    parser.add_argument("--check", action="store_true", help="run, but write nothing")
    args = parser.parse_args()
    os.environ["CDIFF_PRESET"] = args.preset
    failed = 0
    for path in args.notebooks or sorted((HOUSE / "notebooks").glob("*.ipynb")):
        start = time.monotonic()
        try:
            notebook = run(path.resolve())
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        tidy(notebook)
        size = len(nbformat.writes(notebook).encode())
        if size > MAX_BYTES:
            print(f"{path.name}: {size:,} bytes, more than {MAX_BYTES:,}", file=sys.stderr)
            failed += 1
        elif not args.check:
            nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {size / 1e3:.0f} kB", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
