"""The documented promises and the tests that hold them belong together."""

import ast
import re

import pytest

from tests.support.notebooks import HOUSE

TEXT = (HOUSE / "docs" / "promises.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "`test_" in line]


def claims_of(name):
    """The tests of a file: whether each is marked as slow."""
    paths = (HOUSE / folder / name for folder in ("tests", "exercises/tests"))
    tree = ast.parse(next(p for p in paths if p.is_file()).read_text(encoding="utf-8"))
    return {
        node.name: any("mark.slow" in ast.unparse(mark) for mark in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:60])
def test_every_promise_is_held_by_tests_that_exist(row):
    promise, held = row.strip("| ").rsplit(" | ", 1)
    assert len(promise) > 20
    file, named = None, re.findall(r"(●? ?)`(?:(test_\w+\.py)::)?(test_\w+)`", held)
    assert named
    for slow, given, test in named:
        file = given or file
        assert test in claims_of(file), f"{file} has no {test}"
        assert claims_of(file)[test] == ("●" in slow), f"{test}: slow?"


def test_the_table_is_whole():
    assert len(ROWS) >= 25
