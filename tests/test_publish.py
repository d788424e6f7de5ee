"""The address of the published course: one place gives it, and everything agrees."""

import json
import shutil

import pytest

from notebooks import HOUSE, NOTEBOOKS, cells
from tools import publish


@pytest.fixture
def house(tmp_path):
    """A copy of what names the address."""
    for path in [*publish.files(HOUSE), HOUSE / publish.PLACE]:
        target = tmp_path / path.relative_to(HOUSE)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def command(house, *words):
    return publish.main([*words, "--house", str(house)])


def test_all_addresses_are_the_one_that_is_given():
    assert publish.disagreements(HOUSE) == []
    repo, branch = publish.address(HOUSE)
    for path in NOTEBOOKS:
        title, bootstrap = cells(path)[0].source, cells(path, "code")[0].source
        colab, kaggle, whole = publish.forms(repo, branch)
        assert f"({colab}{path.name})" in title
        assert f"({kaggle}{path.name})" in title
        assert bootstrap.endswith(f"%pip install --quiet {whole}")
        assert f"({colab}{path.name})" in (HOUSE / "README.md").read_text("utf-8")


def test_the_first_cell_is_the_same_in_all_notebooks():
    assert len({cells(path, "code")[0].source for path in NOTEBOOKS}) == 1


def test_another_address_is_written_everywhere_and_nothing_else_is_changed(house, capsys):
    before = {path: path.read_bytes() for path in publish.files(house)}
    assert command(house, "--repo", "a.b/c-d", "--branch", "next/one") == 0
    assert publish.address(house) == ("a.b/c-d", "next/one")
    assert len(capsys.readouterr().out.split()) >= 9  # eight notebooks and the README
    for path in publish.files(house):
        text = path.read_text(encoding="utf-8")
        assert "conditional-diffusion/notebook-course/blob" not in text
        if path.suffix == ".ipynb":
            assert "github/a.b/c-d/blob/next/one/notebooks/" in text
            old, new = json.loads(before[path]), json.loads(text)
            assert [c.get("outputs") for c in old["cells"]] == [
                c.get("outputs") for c in new["cells"]
            ]
    repo, branch = publish.address(HOUSE)
    assert command(house, "--repo", repo, "--branch", branch) == 0
    assert {path: path.read_bytes() for path in publish.files(house)} == before
    assert command(house) == 0 and "Nothing had to be changed" in capsys.readouterr().out


def test_a_file_that_disagrees_is_named_and_mended(house, capsys):
    path = house / "notebooks" / "03_diffusion_process.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("notebook-course/blob/main", "other/blob/main", 1), "utf-8")
    assert command(house, "--check") == 1
    said = capsys.readouterr().out
    assert "notebooks/03_diffusion_process.ipynb: https://colab" in said and "other/blob" in said
    assert said.count("\n") == 1
    assert command(house) == 0 and path.read_text("utf-8") == text


def test_a_notebook_without_its_address_is_named(house, capsys):
    path = house / "notebooks" / "05_training_loop.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("archive/refs/heads", "somewhere/else"), "utf-8")
    assert command(house, "--check") == 1
    assert "notebooks/05_training_loop.ipynb lacks https://github.com/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--repo", "alone"], "repo is 'alone'; expected owner/name"),
        (["--repo", "a/b/c"], "repo is 'a/b/c'"),
        (["--repo", "https://github.com/a/b"], "repo is 'https"),
        (["--repo", "../x"], "repo is '../x'"),
        (["--branch", "a b"], "branch is 'a b'"),
        (["--branch=-x"], "branch is '-x'"),
        (["--branch", 'a"b'], "branch is 'a\"b'"),
    ],
)
def test_what_is_no_address_is_refused_and_nothing_is_written(words, named, house, capsys):
    before = {path: path.read_bytes() for path in house.rglob("*") if path.is_file()}
    assert command(house, *words) == 2
    assert named in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
