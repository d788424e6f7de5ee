"""Publish the course.

python -m tools.course.publish --repo OWNER/NAME [--tag v0.1.0] | --undo | --check

Until then nothing in it points at an address. Publishing writes badges, links and an install line
pinned to the tag into README.md, the notebooks, docs, CITATION.cff and pyproject.toml, which
records the address. `--undo` takes all of it out again. `--check` writes nothing, names each file
that disagrees with the record and exits 1. Commit the result, tag the commit and push both.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from cdiff_helpers import __version__

HOUSE = Path(__file__).resolve().parents[2]
RECORD, FRONT, CITATION = "pyproject.toml", "README.md", "CITATION.cff"
REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
TAG = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
# What publishing fills, each as (before, body, after)
REGION = re.compile(
    r"(^(?:#|<!--) published\b.*\n)((?:.*\n)*?)(^(?:#|<!--) /published\b.*\n?)", re.M
)
LINKS = re.compile(
    r'(^ *"\[(?:← previous|next →)\].*?)( · \[Open in Colab\].*?)?((?:\\n)?",?\r?$)', re.M
)
CELL = re.compile(r'("id": "bootstrap",.*?"source": \[)(\s+".*?)(\s+\])(?=\r?\n)', re.S)
FIND = """\
import sys
from importlib.util import find_spec
from pathlib import Path

course = Path("../cdiff_helpers")  # beside this notebook's folder, or installed
if course.is_dir() and course.lstat().st_uid in (0, Path().stat().st_uid):  # and no stranger's
    sys.path += ["..", "../exercises"]
if not (find_spec("cdiff_helpers") and find_spec("cdiff_exercises")):"""
INSTALL = """  # or is now (on Kaggle with Internet on)
    %pip install --quiet {archive}"""
REFUSE = """
    how = "upload cdiff_helpers and cdiff_exercises, or a wheel of both (`pip wheel --no-deps .`)"
    raise ModuleNotFoundError(f"The course's packages are missing: {how}.")"""


@dataclass(frozen=True)
class Address:
    """A repository (owner/name) and a tag in it. Raises ValueError for what is neither."""

    repo: str
    tag: str

    def __post_init__(self) -> None:
        for name, pattern, example in (("repo", REPO, "owner/name"), ("tag", TAG, "v0.1.0")):
            value = getattr(self, name)
            if not pattern.fullmatch(value) or ".." in value:
                raise ValueError(f"{name} is {value!r}; expected one such as {example}.")

    @property
    def home(self) -> str:
        return f"https://github.com/{self.repo}"

    @property
    def archive(self) -> str:
        return f"{self.home}/archive/refs/tags/{self.tag}.zip"

    def file(self, name: str) -> str:
        """Where a file of the repository is read."""
        return f"{self.home}/blob/{self.tag}/{name}"

    def colab(self, notebook: str) -> str:
        place = f"{self.repo}/blob/{self.tag}/notebooks/{notebook}"
        return f"https://colab.research.google.com/github/{place}"

    def kaggle(self, notebook: str) -> str:
        return f"https://kaggle.com/kernels/welcome?src={self.file(f'notebooks/{notebook}')}"


def badges(address: Address) -> str:
    """A line of Markdown: the first notebook on Colab and Kaggle, and the repository."""
    first = "01_libraries_and_gpu.ipynb"
    colab = "![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)"
    kaggle = "![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)"
    return (
        f"[{colab}]({address.colab(first)}) [{kaggle}]({address.kaggle(first)}) "
        f"[{address.repo}]({address.home})\n"
    )


def record(address: Address) -> str:
    """The tables of pyproject.toml, among them the record that `recorded` reads."""
    return (
        f'[project.urls]\nRepository = "{address.home}"\n\n'
        f'[tool.cdiff.publish]\nrepo = "{address.repo}"\ntag = "{address.tag}"\n'
    )


def citation(address: Address) -> str:
    """The field of CITATION.cff."""
    return f'repository-code: "{address.home}"\n'


BODIES = {".md": badges, ".toml": record, ".cff": citation}


def links(name: str, address: Address | None) -> str:
    """The end of a notebook's line of links: itself on Colab and on Kaggle."""
    if address is None:
        return ""
    return f" · [Open in Colab]({address.colab(name)}) · [in Kaggle]({address.kaggle(name)})"


def first_cell(address: Address | None) -> str:
    """The code cell that finds the course, and else installs it or says how to get it."""
    return FIND + (INSTALL.format(archive=address.archive) if address else REFUSE)


def filled(place: re.Pattern, text: str, body: str, name: str) -> str:
    """The text with its first such place filled. Raises ValueError where there is none."""
    text, count = place.subn(lambda match: match[1] + body + match[3], text, count=1)
    if not count:
        places = {
            REGION: "the lines `published` and `/published`, as comments",
            LINKS: "a line that begins with [← previous] or [next →]",
            CELL: "a code cell with the id bootstrap",
        }
        raise ValueError(f"{name} has no place to publish in; expected {places[place]}.")
    return text


def rendered(name: str, text: str, address: Address | None) -> str:
    """A file's text as published at that address, or unpublished; its line ends stay."""
    end = "\r\n" if "\r\n" in text else "\n"
    if not name.endswith(".ipynb"):
        body = BODIES[Path(name).suffix](address) if address else ""
        return filled(REGION, text, body.replace("\n", end), name)
    lines = first_cell(address).splitlines(keepends=True)
    cell = ",".join(f"{end}    {json.dumps(line, ensure_ascii=False)}" for line in lines)
    text = filled(LINKS, text, links(Path(name).name, address), name)
    return filled(CELL, text, cell, name)


def files(house: Path) -> list[Path]:
    """The files that name the address; of the docs those with a marked region."""
    docs = [p for p in sorted(house.glob("docs/*.md")) if REGION.search(p.read_text("utf-8"))]
    named = [house / FRONT, house / RECORD, *house.glob(CITATION)]
    return [*named, *docs, *sorted(house.glob("notebooks/*.ipynb"))]


def changes(house: Path, address: Address | None) -> dict[Path, str]:
    """The files that differ from what they are at that address (None: unpublished): their texts."""
    changed = {}
    for path in files(house):
        text = path.read_bytes().decode()  # bytes: line ends stay as they are
        right = rendered(path.relative_to(house).as_posix(), text, address)
        if right != text:
            changed[path] = right
    return changed


def recorded(house: Path) -> Address | None:
    """The address that pyproject.toml records, None while the course is unpublished."""
    region = REGION.search((house / RECORD).read_text(encoding="utf-8"))
    if region is None or not region[2]:
        return None
    pair = re.search(r'^repo = "(.*)"\ntag = "(.*)"$', region[2], re.M)
    if pair is None:
        raise ValueError(f"{RECORD} records no repo and tag; mend it by --repo or --undo.")
    return Address(*pair.groups())


def check(house: Path) -> int:
    """Name the files that disagree with the record: 1 if there are any, else 0."""
    address = recorded(house)
    state = f"published at {address.repo}, {address.tag}" if address else "unpublished"
    wrong = changes(house, address)
    for path in wrong:
        print(f"{path.relative_to(house).as_posix()} disagrees: the course is {state}")
    return int(bool(wrong))


def publish(house: Path, address: Address | None) -> None:
    """Write the address, or its absence, into all files and name those that changed."""
    changed = changes(house, address)  # all of them before the first is written
    for path, text in changed.items():
        path.write_bytes(text.encode())
        print(path.relative_to(house).as_posix())
    if not changed:
        print("Nothing had to be changed.")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--repo", help="publish at this address, owner/name")
    action.add_argument("--undo", action="store_true", help="take every address out again")
    action.add_argument("--check", action="store_true", help="name what disagrees, write nothing")
    parser.add_argument("--tag", help=f"what links and installs are pinned to (v{__version__})")
    parser.add_argument("--house", type=Path, default=HOUSE, help="the project's folder")
    args = parser.parse_args(arguments)
    if args.tag is not None and args.repo is None:
        parser.error("--tag belongs to --repo owner/name")
    try:
        if args.check:
            return check(args.house)
        tag = f"v{__version__}" if args.tag is None else args.tag
        publish(args.house, None if args.undo else Address(args.repo, tag))
        if not args.undo:
            print(f"Now commit this, tag the commit {tag}, and push both: the links need the tag.")
    except (ValueError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
