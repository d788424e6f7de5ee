"""Nothing points at an address until the course is published; then everything at one tag of it."""

import re
import shutil

import pytest

from tests.support.notebooks import HOUSE, NAMES, NOTEBOOKS, cells
from tools.course import publish

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

HOSTS = re.compile(
    r"github\.(com|io)\b|githubusercontent|gitlab\.com|colab\.research|kaggle\.com", re.I
)
TEXTS = (
    "*.md", "*.toml", "*.cff", "docs/**/*.md", "docs/**/*.y*ml", ".github/**/*.y*ml",
    "notebooks/*.ipynb", "cdiff_helpers/**/*.py", "cdiff_helpers/**/*.md",
    "cdiff_helpers/**/*.html", "cdiff_helpers/**/*.json",
)  # fmt: skip
REGIONS = {
    "README.md": "<!-- published: python -m tools.course.publish -->\n<!-- /published -->\n",
    "CITATION.cff": "# published: python -m tools.course.publish\n# /published\n",
}
ADDRESS = publish.Address("a.b/c-d", "v1.2/rc")
WHOLE = "https://github.com/a.b/c-d"


@pytest.fixture
def house(tmp_path):
    """A copy of the files that name the address, unpublished, each with its place for it."""
    named = [publish.RECORD, publish.FRONT, publish.CITATION, "docs/*.md", "notebooks/*.ipynb"]
    for path in (path for name in named for path in HOUSE.glob(name)):
        target = tmp_path / path.relative_to(HOUSE)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    for name, lines in REGIONS.items():
        path = tmp_path / name
        text = path.read_text("utf-8") if path.exists() else "cff-version: 1.2.0\n"
        if not publish.REGION.search(text):
            path.write_text(text + lines, "utf-8")
    publish.publish(tmp_path, None)
    return tmp_path


def command(house, *arguments):
    return publish.main([*arguments, "--house", str(house)])


def contents(house):
    return {path: path.read_bytes() for path in house.rglob("*") if path.is_file()}


def test_every_file_agrees_with_the_record():
    assert publish.changes(HOUSE, publish.recorded(HOUSE)) == {}


def test_an_unpublished_course_names_no_code_host():
    texts = {path: path.read_text("utf-8") for shape in TEXTS for path in HOUSE.glob(shape)}
    assert len(texts) > 60
    texts |= publish.changes(HOUSE, None)
    named = {path.name: HOSTS.search(text) for path, text in texts.items()}
    assert not {name: match[0] for name, match in named.items() if match}


def test_every_file_of_a_published_course_points_at_one_tag(house):
    assert command(house, "--repo", ADDRESS.repo, "--tag", ADDRESS.tag) == 0
    blob = "a.b/c-d/blob/v1.2/rc/notebooks"
    colab = f"(https://colab.research.google.com/github/{blob}"
    kaggle = f"(https://kaggle.com/kernels/welcome?src=https://github.com/{blob}"
    for path in sorted(house.glob("notebooks/*.ipynb")):
        line = cells(path)[0].source.split("\n")[2]
        links = f"[Open in Colab]{colab}/{path.name}) · [in Kaggle]{kaggle}/{path.name})"
        assert line.endswith(f"two CPU cores · {links}")
        (bootstrap,) = (cell for cell in cells(path, "code") if cell.id == "bootstrap")
        install = f"%pip install --quiet {WHOLE}/archive/refs/tags/v1.2/rc.zip"
        assert bootstrap.source.endswith(install)
    for name in ("README.md", "docs/colab.md"):
        (line,) = (x for x in (house / name).read_text("utf-8").split("\n") if "a.b/c-d" in x)
        assert f"{colab}/{NAMES[0]}.ipynb)" in line and f"{kaggle}/{NAMES[0]}.ipynb)" in line
        assert line.endswith(f"[a.b/c-d]({WHOLE})")
    settings = tomllib.loads((house / "pyproject.toml").read_text("utf-8"))
    assert settings["tool"]["cdiff"]["publish"] == {"repo": "a.b/c-d", "tag": "v1.2/rc"}
    assert settings["project"]["urls"]["Repository"] == WHOLE
    citation = (house / "CITATION.cff").read_text("utf-8")
    assert f'\nrepository-code: "{WHOLE}"\n' in citation
    assert publish.recorded(house) == ADDRESS and command(house, "--check") == 0


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_undoing_gives_every_byte_back_and_publishing_again_replaces(end, house):
    for path, content in contents(house).items():
        path.write_bytes(content.replace(b"\n", end))
    before = contents(house)
    assert command(house, "--check") == 0
    assert command(house, "--repo", "own/one", "--tag", "v1") == 0
    once = contents(house)
    changed = {path.name for path in before if once[path] != before[path]}
    assert changed == {*(path.name for path in NOTEBOOKS), *REGIONS, "pyproject.toml", "colab.md"}
    assert all(content.count(b"\n") == content.count(end) for content in once.values())
    assert command(house, "--repo", "other/two", "--tag", "v2") == 0
    assert not [path for path, content in contents(house).items() if b"own/one" in content]
    assert command(house, "--repo", "own/one", "--tag", "v1") == 0 and contents(house) == once
    assert command(house, "--undo") == 0 and contents(house) == before


def test_the_tag_is_the_version_where_none_is_given(house):
    assert command(house, "--repo", "a/b") == 0
    assert publish.recorded(house) == publish.Address("a/b", f"v{publish.__version__}")


@pytest.mark.parametrize("address", [None, ADDRESS], ids=["unpublished", "published"])
@pytest.mark.parametrize(
    ("name", "after", "stray"),
    [
        ("notebooks/03_diffusion_process.ipynb", "CPU cores", " · [Open in Colab](https://x)"),
        ("notebooks/05_training_loop.ipynb", 'find_spec(\\"cdiff_helpers', "_x"),
        ("README.md", "tools.course.publish -->\n", "x\n"),
        ("docs/colab.md", "tools.course.publish -->\n", "x\n"),
        ("CITATION.cff", "tools.course.publish\n", "x\n"),
    ],
)
def test_a_file_that_disagrees_is_named_and_mended(name, after, stray, address, house, capsys):
    publish.publish(house, address)
    right = contents(house)
    text = (house / name).read_text("utf-8")
    assert after in text
    (house / name).write_text(text.replace(after, after + stray, 1), "utf-8")
    spoiled = contents(house)
    capsys.readouterr()
    assert command(house, "--check") == 1
    state = "published at a.b/c-d, v1.2/rc" if address else "unpublished"
    assert capsys.readouterr().out == f"{name} disagrees: the course is {state}\n"
    assert contents(house) == spoiled
    publish.publish(house, address)
    assert contents(house) == right


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("README.md", "<!-- /published -->", "README.md has no place to publish in"),
        ("notebooks/02_dataset.ipynb", "[← previous]", "expected a line that begins with [← prev"),
        ("notebooks/02_dataset.ipynb", '"bootstrap"', "expected a code cell with the id bootstrap"),
    ],
)
def test_a_file_without_a_place_is_named_and_nothing_is_written(
    name, line, expected, house, capsys
):
    path = house / name
    path.write_text(path.read_text("utf-8").replace(line, "gone", 1), "utf-8")
    before = contents(house)
    assert command(house, "--repo", "a/b") == command(house, "--check") == 2
    assert expected in capsys.readouterr().err and contents(house) == before


def test_a_record_that_says_nothing_is_named_and_mended(house, capsys):
    before = contents(house)
    command(house, "--repo", "a/b")
    path = house / "pyproject.toml"
    path.write_text(path.read_text("utf-8").replace('repo = "a/b"\n', ""), "utf-8")
    assert command(house, "--check") == 2
    assert "pyproject.toml records no repo and tag; mend it by" in capsys.readouterr().err
    assert command(house, "--undo") == 0 and contents(house) == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--repo", "alone"], "repo is 'alone'; expected one such as owner/name"),
        (["--repo", "a/b/c"], "repo is 'a/b/c'"),
        (["--repo", "https://github.com/a/b"], "repo is 'https"),
        (["--repo", "../x"], "repo is '../x'"),
        (["--repo", "a/b..c"], "repo is 'a/b..c'"),
        (["--repo", ""], "repo is ''"),
        (["--repo", "a/b", "--tag", "a b"], "tag is 'a b'; expected one such as v"),
        (["--repo", "a/b", "--tag=-x"], "tag is '-x'"),
        (["--repo", "a/b", "--tag", 'a"b'], "tag is 'a\"b'"),
        (["--repo", "a/b", "--tag", ""], "tag is ''"),
    ],
)
def test_what_is_no_address_is_refused_and_nothing_is_written(arguments, named, house, capsys):
    before = contents(house)
    assert command(house, *arguments) == 2
    assert named in capsys.readouterr().err and contents(house) == before


@pytest.mark.parametrize(
    "arguments", [[], ["--undo", "--tag", "v1"], ["--tag", "v1"], ["--undo", "--repo", "a/b"]]
)
def test_one_thing_is_done_at_a_time(arguments, house, capsys):
    before = contents(house)
    with pytest.raises(SystemExit, match="2"):
        command(house, *arguments)
    assert "--repo" in capsys.readouterr().err and contents(house) == before
