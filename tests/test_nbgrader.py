"""The notebooks as nbgrader takes them: its own headless flow, from source to marks."""

import nbformat
import pytest

from cdiff_helpers.checks import EXERCISES
from tools import release

pytestmark = pytest.mark.peer


@pytest.fixture
def course(tmp_path):
    """nbgrader's course folder with notebook 02 as an assignment, and its API."""
    pytest.importorskip("nbgrader", reason="pip install -r requirements-bench.txt brings nbgrader")
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    config.ClearSolutions.code_stub = {"python": release.GAP}
    source = tmp_path / "source" / "ps02"
    source.mkdir(parents=True)
    name = release.notebook_path("02").name
    nbformat.write(nbformat.read(release.notebook_path("02"), as_version=4), source / name)
    return NbGraderAPI(config=config), tmp_path, name


@pytest.mark.filterwarnings("ignore")  # nbgrader's own
def test_solutions_have_full_marks_and_an_untouched_release_none(course):
    api, folder, name = course
    made = api.generate_assignment("ps02")
    assert made["success"], made.get("error") or made.get("log")
    handed_out = folder / "release" / "ps02" / name
    assert "### BEGIN SOLUTION" not in handed_out.read_text(encoding="utf-8")
    for student, path in (("solved", folder / "source" / "ps02" / name), ("untouched", handed_out)):
        place = folder / "submitted" / student / "ps02"
        place.mkdir(parents=True)
        (place / name).write_bytes(path.read_bytes())
        marked = api.autograde("ps02", student)
        assert marked["success"], marked.get("error") or marked.get("log")
    with api.gradebook as gradebook:
        scores = {each.student.id: each.score for each in gradebook.assignment_submissions("ps02")}
    asked = [EXERCISES[name].points for name in release.exercises_of("02")]
    assert scores == {"solved": sum(asked), "untouched": 0}
