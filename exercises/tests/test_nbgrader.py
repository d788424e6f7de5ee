"""The notebooks as nbgrader takes them: its own headless flow, from source to marks."""

import nbformat
import pytest

from cdiff_exercises.room import EXERCISES
from exercises import hand_out

pytestmark = pytest.mark.peer


@pytest.fixture
def course(tmp_path):
    """nbgrader's course folder with notebook 02, solved, as an assignment's source; its API."""
    pytest.importorskip("nbgrader", reason="pip install -r requirements-bench.txt brings nbgrader")
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    assert hand_out.main(["02", "--to", str(tmp_path / "source" / "ps02"), "--solved"]) == 0
    return NbGraderAPI(config=config), tmp_path, hand_out.notebook_path("02").name


@pytest.mark.filterwarnings("ignore")  # nbgrader's own
def test_solutions_have_full_marks_and_an_untouched_release_none(course):
    api, folder, name = course
    made = api.generate_assignment("ps02")
    assert made["success"], made.get("error") or made.get("log")
    released = folder / "release" / "ps02" / name
    for own, cell in zip(hand_out.read("02").cells, nbformat.read(released, as_version=4).cells):
        if (hand_out.part_of(own) or "  ")[1] == "answer" and own.source.startswith("def"):
            assert cell.source == own.source  # its gap is ours
    for student, path in (("solved", folder / "source" / "ps02" / name), ("untouched", released)):
        place = folder / "submitted" / student / "ps02"
        place.mkdir(parents=True)
        (place / name).write_bytes(path.read_bytes())
        marked = api.autograde("ps02", student)
        assert marked["success"], marked.get("error") or marked.get("log")
    with api.gradebook as gradebook:
        scores = {each.student.id: each.score for each in gradebook.assignment_submissions("ps02")}
    asked = [EXERCISES[name].points for name in hand_out.exercises_of("02")]
    assert scores == {"solved": sum(asked), "untouched": 0}
