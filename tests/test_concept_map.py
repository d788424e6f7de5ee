"""The concept map: nothing depends on what comes later, and the picture is the table's."""

import sys

import pytest
from PIL import Image

from cdiff_helpers.checks import EXERCISES
from notebooks import HOUSE, NAMES

sys.path.insert(0, str(HOUSE / "tools"))
import concept_map

ASKED = [exercise for exercise in EXERCISES.values() if exercise.kind != "taught"]


@pytest.mark.parametrize("name", concept_map.IDEAS)
def test_an_idea_builds_on_its_own_notebook_and_earlier_ones(name):
    idea = concept_map.IDEAS[name]
    for need in idea.needs:
        assert concept_map.IDEAS[need].notebook <= idea.notebook, f"{name} needs {need}"


@pytest.mark.parametrize("exercise", ASKED, ids=lambda exercise: exercise.name)
def test_an_exercise_can_be_done_with_the_notebooks_before_it(exercise):
    needs = concept_map.NEEDED_FOR[exercise.name]
    assert needs and all(concept_map.IDEAS[n].notebook <= exercise.notebook for n in needs)
    # it is about its own notebook, not about one long gone
    assert max(concept_map.IDEAS[n].notebook for n in needs) == exercise.notebook


def test_the_map_knows_all_notebooks_and_no_exercise_that_is_gone():
    assert list(concept_map.QUESTIONS) == [name[:2] for name in NAMES]
    assert {idea.notebook for idea in concept_map.IDEAS.values()} == set(concept_map.QUESTIONS)
    assert set(concept_map.NEEDED_FOR) == {exercise.name for exercise in ASKED}


def test_the_picture_is_drawn_from_the_present_table():
    with Image.open(concept_map.PICTURE) as picture:
        assert picture.text["Source"] == concept_map.digest(), (
            "python tools/concept_map.py draws it anew"
        )
