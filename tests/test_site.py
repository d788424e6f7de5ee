"""The pages to read: whole, linked, described, and alive from the disk alone."""

import itertools
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from tests.support import lab
from tests.support.notebooks import HOUSE, NAMES, NOTEBOOKS, cells
from tools.course import publish, site


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    assert len(site.build(HOUSE, folder)) == 9
    return folder


class Page(HTMLParser):
    """What a page links to, loads, names and shows."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors, self.pictures = [], [], set(), []
        self.headings, self.open = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("img", "script", "source", "iframe", "video") and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link":
            self.loaded.append(given["href"])
        if tag == "img":
            self.pictures.append(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(pages):
    read = {path.name: Page(path) for path in pages.glob("*.html")}
    inside = 0
    for name, page in read.items():
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme:
                assert parts.scheme == "https", (name, target)
                continue
            other = read[parts.path or name]
            inside += 1
            assert not parts.fragment or unquote(parts.fragment) in other.anchors, (name, target)
        for source in page.loaded:
            local = source.startswith("data:") or (pages / source).is_file()
            assert local, (name, source[:80])
    assert inside > 100
    css = (pages / "course.css").read_text(encoding="utf-8")
    assert "url(" not in css and "@import" not in css


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_words_and_every_stored_one_is_shown(name, pages):
    page, path = Page(pages / f"{name}.html"), HOUSE / "notebooks" / f"{name}.ipynb"
    assert all(len(picture.get("alt") or "") > 4 for picture in page.pictures)
    stored = 0
    text = (pages / f"{name}.html").read_text(encoding="utf-8")
    for cell in cells(path, "code"):
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data and "text/html" not in data:
                stored += 1
                assert data["image/png"].strip() in text
    assert stored >= 2
    films = sum("cdiff-film" in str(cell.outputs) for cell in cells(path, "code"))
    assert text.count('class="cdiff-film') == films
    assert len(text) < 1_500_000


@pytest.mark.parametrize("name", NAMES)
def test_formulas_are_formulas_and_headings_fall_by_one(name, pages):
    text = (pages / f"{name}.html").read_text(encoding="utf-8")
    wanted = 0
    for cell in cells(HOUSE / "notebooks" / f"{name}.ipynb", "markdown"):
        source = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.S)
        wanted += len(re.findall(r"\$\$.+?\$\$|(?<!\$)\$[^$\n]+\$", source, re.S))
    assert text.count("<math") == wanted > 5
    shown = re.sub(r"<pre.*?</pre>|<code.*?</code>|<script.*?</script>", "", text, flags=re.S)
    assert "$" not in re.sub(r"<[^>]*>", "", shown)
    assert not re.findall(r"<m[ion]>\\|\\[a-z]+\{", shown)
    levels = Page(pages / f"{name}.html").headings
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_chapters_follow_each_other(pages):
    for before, after in itertools.pairwise(NAMES):
        assert f'rel="next" href="{after}.html"' in (pages / f"{before}.html").read_text("utf-8")
        assert f'rel="prev" href="{before}.html"' in (pages / f"{after}.html").read_text("utf-8")


README = """\
# A course

<!-- published: python -m tools.course.publish -->
<!-- /published -->

Read [the license](LICENSE).

## The notebooks

[01](notebooks/01_libraries_and_gpu.ipynb) and [02](notebooks/02_dataset.ipynb)
"""


@pytest.fixture
def house(tmp_path):
    """A course that is unpublished, with a short README."""
    (tmp_path / "house" / "notebooks").mkdir(parents=True)
    for path in [*NOTEBOOKS, HOUSE / "LICENSE", HOUSE / "pyproject.toml"]:
        shutil.copy(path, tmp_path / "house" / path.relative_to(HOUSE))
    (tmp_path / "house" / "README.md").write_text(README, encoding="utf-8")
    publish.publish(tmp_path / "house", None)
    return tmp_path / "house"


def test_unpublished_pages_link_to_pages_alone(house, tmp_path):
    front, *_ = pages = site.build(house, tmp_path / "out")
    links = {target.partition("#")[0] for page in pages for target in Page(page).links}
    assert not {link for link in links if "github" in link or "colab" in link}
    assert {link for link in links if ":" not in link} - {""} == {page.name for page in pages}
    text = front.read_text(encoding="utf-8")
    assert "Read <a>the license</a>." in text and "take the notebooks.</p>" in text
    assert "<!--" not in text
    for page in pages:
        assert "github.com" not in page.read_text(encoding="utf-8")


def test_published_pages_link_to_the_files_at_the_tag(house, tmp_path):
    publish.publish(house, publish.Address("own/course", "v3"))
    front, *chapters = site.build(house, tmp_path / "out")
    assert "https://github.com/own/course/blob/v3/LICENSE" in Page(front).links
    assert f"{NAMES[1]}.html" in Page(front).links and Page(front).loaded == ["course.css"]
    for page in (front, *chapters):
        assert Page(page).links[-1] == "https://github.com/own/course"
    for name, page in zip(NAMES, chapters):
        colab = "https://colab.research.google.com/github/own/course/blob/v3"
        assert f"{colab}/notebooks/{name}.ipynb" in Page(page).links


def test_a_readme_without_a_table_of_notebooks_is_named(house, tmp_path):
    text = README.replace("## The notebooks", "## Others")
    (house / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="no section '## The notebooks'"):
        site.build(house, tmp_path / "out")


@pytest.mark.parametrize("fault", ["link", "alt"])
def test_a_fault_is_named_with_its_notebook_and_cell_and_nothing_is_built(
    fault, house, tmp_path, monkeypatch, capsys
):
    path = house / "notebooks" / NOTEBOOKS[2].name
    notebook = nbformat.read(path, as_version=4)
    if fault == "link":
        cell = notebook.cells[4]
        cell.source += "\n\n[nowhere](99_nothing.ipynb)"
    else:
        cell, output = next(
            (cell, output)
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        )
        output.metadata = {}
    nbformat.write(notebook, path)
    monkeypatch.setattr(site, "HOUSE", house)
    assert site.main(["--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"{path.name}, cell {cell.id}" in said and not (tmp_path / "out").exists()


@pytest.mark.browser
@pytest.mark.skipif(bool(lab.what_is_missing()), reason=lab.what_is_missing() or "")
def test_a_page_fits_phone_and_desk_and_its_film_scrubs_from_the_disk(pages):
    with lab.chromium() as browser:
        for width in (390, 1440):
            context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
            page, told = context.new_page(), []
            page.on("console", lambda message, told=told: told.append(message.text))
            page.on("pageerror", lambda error, told=told: told.append(str(error)))
            for name in ("index", NAMES[2], NAMES[4]):
                page.goto((pages / f"{name}.html").as_uri())
                over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert page.evaluate(over) <= 0, (name, width)
            page.goto((pages / f"{NAMES[2]}.html").as_uri())
            slider = page.locator(".cdiff-film input[type=range]").first
            slider.scroll_into_view_if_needed()
            film = page.locator(".cdiff-film").first
            first = film.screenshot()
            slider.focus()
            for _ in range(5):
                page.keyboard.press("ArrowRight")
            assert film.screenshot() != first and told == []
            context.close()
