"""Build the course as pages to read.

python -m tools.course.site [--out site]

Nine static pages that open from the disk, without a network and without running anything: text,
formulas as MathML, code, stored figures, and films that scrub. Refuses to build, naming notebook
and cell, where a link leads nowhere or a picture has no alternative text.
"""

import argparse
import base64
import html
import itertools
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from tools.course.publish import REGION, recorded

HOUSE = Path(__file__).resolve().parents[2]
PAGES = Path(__file__).with_name("site_pages")
ANSWER = re.compile(r"ex-.+-answer")
TAG = re.compile(r"\\tag\{([^}]*)\}")
KNOWN = {r"\arg\max": r"\operatorname{arg max}"}  # what the converter does not know


@dataclass
class Chapter:
    """One notebook as a page: its cells in HTML, and what has to be checked of them."""

    path: Path
    house: Path
    title: str = ""
    sections: list[tuple[str, str]] = field(default_factory=list)  # anchor, words
    cells: list[dict] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # notebook, cell and what is wrong

    @property
    def page(self) -> str:
        return self.path.with_suffix(".html").name


def formula(tex: str, *, display: bool) -> str:
    """TeX as MathML, a \\tag beside it as the equation's number."""
    number = TAG.search(tex)
    tex = TAG.sub("", tex)
    for known, instead in KNOWN.items():
        tex = tex.replace(known, instead)
    math = convert(tex.strip(), display="block" if display else "inline")
    if not display:
        return math
    said = f"<span class=number>({html.escape(number[1])})</span>" if number else ""
    return f"<div class=equation>{math}{said}</div>"


def markdown() -> MarkdownIt:
    """Markdown as notebooks write it: tables, formulas, headings with anchors."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.use(anchors_plugin, max_level=3)
    parser.use(dollarmath_plugin, allow_space=False, double_inline=True)
    parser.add_render_rule(
        "math_inline", lambda self, t, i, *_: formula(t[i].content, display=False)
    )
    parser.add_render_rule(
        "math_inline_double", lambda self, t, i, *_: formula(t[i].content, display=True)
    )
    parser.add_render_rule("math_block", lambda self, t, i, *_: formula(t[i].content, display=True))
    return parser


def text_cell(chapter: Chapter, cell: NotebookNode, parser: MarkdownIt) -> dict:
    """A text cell's HTML, its links turned to pages; headings are noted in the chapter."""
    tokens = parser.parse(cell.source)
    for token, inside in itertools.pairwise(tokens):
        if token.type == "heading_open":
            if token.tag == "h1":
                chapter.title = inside.content
            if token.tag == "h2":
                chapter.sections.append((str(token.attrs["id"]), inside.content))
    body = parser.renderer.render(tokens, parser.options, {})
    return {
        "kind": "text",
        "html": re.sub(r' href="([^"]*)"', lambda m: link(chapter, cell, m), body),
    }


def link(chapter: Chapter, cell: NotebookNode, found: re.Match) -> str:
    """The href of a page for that of a notebook; other files have one where they are published."""
    target, _, anchor = found[1].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return found[0]
    place = (chapter.path.parent / target).resolve()
    if not place.exists():
        chapter.faults.append(f"{chapter.path.name}, cell {cell.id}: no {target} to link to")
        return found[0]
    anchor = anchor and f"#{anchor}"
    if place.suffix == ".ipynb":
        return f' href="{place.with_suffix(".html").name}{anchor}"'
    address = recorded(chapter.house)
    name = place.relative_to(chapter.house.resolve()).as_posix()
    return f' href="{address.file(name)}"' if address else ""


def code_cell(chapter: Chapter, cell: NotebookNode) -> dict:
    """A code cell: highlighted text, what it showed, where its text comes from."""
    source, where = cell.source, ""
    if source.startswith("# source: "):
        first, source = source.split("\n", 1)
        where = first.removeprefix("# source: ")
    source = source.removeprefix("# NBVAL_CHECK_OUTPUT\n")
    return {
        "kind": "answer" if ANSWER.fullmatch(cell.id) else "code",
        "number": cell.execution_count,
        "where": where,
        "html": highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)),
        "outputs": [shown for out in cell.outputs for shown in output(chapter, cell, out)],
    }


def output(chapter: Chapter, cell: NotebookNode, out: NotebookNode) -> Iterator[str]:
    """An output's HTML; a picture without alternative text is noted as a fault."""
    data = out.get("data", {})
    if out.output_type == "stream":
        shown = f"<pre>{html.escape(out.text.rstrip())}</pre>"
    elif "text/html" in data:
        shown = f"<div class=shown>{data['text/html']}</div>"
    elif "image/png" in data:
        shown = figure(data, out.metadata.get("image/png", {}).get("alt", ""))
    else:
        shown = f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"
    for tag in re.findall(r"<img\b[^>]*>", shown):
        if not re.search(r'alt="[^"]+"', tag):
            chapter.faults.append(f"{chapter.path.name}, cell {cell.id}: a picture without words")
    yield shown


def figure(data: dict, alt: str) -> str:
    """A stored PNG with its alternative text; a widget's still says that it is one."""
    content = data["image/png"].strip()
    words = f'alt="{html.escape(alt, quote=True)}" {png_size(content)}'
    live = "<figcaption>A still: in the notebook this is live.</figcaption>"
    said = live if "Still of a widget" in data.get("text/plain", "") else ""
    return f'<figure><img {words} src="data:image/png;base64,{content}">{said}</figure>'


def png_size(content: str) -> str:
    """The width and height of a PNG (base64), so that a page does not jump when it is read."""
    head = base64.b64decode(content[:44])
    width, height = (int.from_bytes(head[k : k + 4], "big") for k in (16, 20))
    return f'width="{width}" height="{height}"'


def chapter_of(path: Path, house: Path, parser: MarkdownIt) -> Chapter:
    """A notebook as a chapter; the cell that only finds the course is left out."""
    chapter = Chapter(path, house)
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            chapter.cells.append(text_cell(chapter, cell, parser))
        elif cell.cell_type == "code" and cell.id != "bootstrap":
            chapter.cells.append(code_cell(chapter, cell))
    return chapter


def front(house: Path, parser: MarkdownIt) -> str:
    """The index page's text: the README's beginning and its table of notebooks."""
    text = REGION.sub("", (house / "README.md").read_text(encoding="utf-8"))
    opening, *sections = re.split(r"^(?=## )", text, flags=re.M)
    table = [section for section in sections if section.startswith("## The notebooks")]
    if not table:
        raise ValueError("README.md has no section '## The notebooks' for the index page.")
    cell = nbformat.v4.new_markdown_cell(opening.split("\n", 1)[1] + table[0])
    body = text_cell(Chapter(house / "README.md", house), cell, parser)["html"]
    return body.replace('src="images/', 'src="')


def styles() -> str:
    """The colours of code by day and by night."""
    day = HtmlFormatter(style="default").get_style_defs(".code")
    night = HtmlFormatter(style="github-dark").get_style_defs(".code")
    return f"{day}\n@media (prefers-color-scheme: dark) {{\n{night}\n}}\n"


def build(house: Path, out: Path) -> list[Path]:
    """Write the pages into a folder: their paths. Raises ValueError that names each fault."""
    parser = markdown()
    chapters = [chapter_of(p, house, parser) for p in sorted(house.glob("notebooks/*.ipynb"))]
    if faults := [fault for chapter in chapters for fault in chapter.faults]:
        raise ValueError("the pages were not built:\n" + "\n".join(faults))
    templates = Environment(loader=FileSystemLoader(PAGES), trim_blocks=True, lstrip_blocks=True)
    shared = {"chapters": chapters, "address": recorded(house)}
    out.mkdir(parents=True, exist_ok=True)
    pages = {"index.html": {"body": front(house, parser), "title": "A course on diffusion"}}
    for i, chapter in enumerate(chapters):
        near = {"before": chapters[i - 1] if i else None, "after": (chapters[i + 1 :] or [None])[0]}
        pages[chapter.page] = {"chapter": chapter, "title": chapter.title, **near}
    for name, given in pages.items():
        text = templates.get_template("page.html").render(**shared, **given)
        (out / name).write_text(text, encoding="utf-8")
    (out / "course.css").write_text(
        (PAGES / "course.css").read_text("utf-8") + styles(), encoding="utf-8"
    )
    for picture in re.findall(r'src="(\w+\.png)"', (out / "index.html").read_text("utf-8")):
        shutil.copy(house / "images" / picture, out)
    return [out / name for name in pages]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HOUSE / "site", help="the folder of the pages")
    args = parser.parse_args(arguments)
    try:
        pages = build(HOUSE, args.out)
    except (ValueError, OSError) as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in args.out.iterdir()) / 1e6
    print(f"{len(pages)} pages, {size:.1f} MB: open {args.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
