"""What a stored notebook must be, so that it opens anywhere and can be compared."""

import re

import nbformat
import pytest

from tests.support.notebooks import HOUSE, NAMES, NOTEBOOKS, cells

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
FRAME = re.compile(r'<img alt="[^"]{5,}" src="data:image/webp[^>]+style="(.+?)"')
# Cells whose output is not text have tests of their own; nbval compares the marked ones.
MARK = "# NBVAL_CHECK_OUTPUT"


@each_notebook
def test_outputs_are_stored_from_one_run_top_to_bottom(path):
    counts = [cell.execution_count for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_error_and_no_warning_is_stored(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source[:60]
            assert "Warning" not in output.get("text", ""), output.text


@each_notebook
def test_no_widget_state_is_stored_and_each_widget_has_its_still_picture(path):
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    for cell in cells(path, "code"):
        for output in cell.outputs:
            data = output.get("data", {})
            assert not [kind for kind in data if "widget" in kind]
            if "Still of a widget" in data.get("text/plain", ""):
                assert data["image/png"]


@each_notebook
def test_a_film_shows_before_it_is_run(path):
    """Its first frame, four later ones and their words; the script takes over where it may."""
    for cell in cells(path, "code"):
        for output in cell.outputs:
            data = output.get("data", {})
            if "cdiff-film" in data.get("text/html", ""):
                markup, script = data["text/html"].split("<script>")
                styles = re.findall(
                    r'<img alt="[^"]{5,}" src="data:image/webp[^>]+style="(.+?)"', markup
                )
                assert len([style for style in styles if "none" not in style]) == 5
                assert "querySelectorAll" in script and data["image/png"]


def test_where_a_film_teaches_one_is_stored():
    for number in ("03", "06", "07"):
        (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
        pages = [
            o.get("data", {}).get("text/html", "") for c in cells(path, "code") for o in c.outputs
        ]
        assert any("cdiff-film" in page for page in pages), number


@each_notebook
def test_every_picture_has_alternative_text(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 15, cell.source[:60]


@each_notebook
def test_it_is_small_valid_and_runs_on_any_python_3_kernel(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 700_000
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@each_notebook
def test_at_least_four_cells_are_compared_by_their_text(path):
    marked = [cell for cell in cells(path, "code") if cell.source.startswith(MARK)]
    assert len(marked) >= 4
    for cell in marked:
        assert cell.outputs, "a marked cell without output compares nothing"
        for output in cell.outputs:
            assert set(output.get("data", {})) <= {"text/plain", "text/html", "text/markdown"}


@each_notebook
def test_stored_outputs_are_not_from_the_reduced_preset(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            text = output.get("data", {}).get("text/plain", "") + output.get("text", "")
            assert "name='reduced'" not in text and "'preset': 'reduced'" not in text


@each_notebook
def test_no_path_of_the_machine_that_ran_it_is_stored(path):
    for word in ("/root/", "/home/", "/Users/", "/tmp/", str(HOUSE)):
        assert word not in path.read_text(encoding="utf-8"), word


def test_figures_appear_in_every_notebook():
    for path in NOTEBOOKS:
        kinds = [kind for c in cells(path, "code") for o in c.outputs for kind in o.get("data", {})]
        assert kinds.count("image/png") >= 2, path.stem
    assert len(NOTEBOOKS) == len(NAMES)
