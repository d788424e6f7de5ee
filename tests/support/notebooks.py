"""What the notebook tests share: the notebooks' paths and cells."""

from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

HOUSE = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((HOUSE / "notebooks").glob("*.ipynb"))
NAMES = (
    "01_libraries_and_gpu",
    "02_dataset",
    "03_diffusion_process",
    "04_conditional_unet",
    "05_training_loop",
    "06_conditional_sampling",
    "07_visualization",
    "08_execution",
)


def cells(path: Path, kind: str | None = None) -> list[nbformat.NotebookNode]:
    """A notebook's cells, of one kind where it is given ("code" or "markdown")."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if kind in (None, cell.cell_type)]


def as_python(cell: nbformat.NotebookNode) -> str:
    """A code cell's program as IPython runs it: magics are calls."""
    return TransformerManager().transform_cell(cell.source)


def is_woven(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell holds a definition of the package."""
    return cell.cell_type == "code" and cell.source.startswith("# source:")
