"""Say where the course is published: python tools/publish.py --repo OWNER/NAME [--branch main]

The address is given in one place, `[tool.cdiff.publish]` in pyproject.toml. This writes it there
and into the links and the first code cell of all notebooks, the README and the pages in docs.
`--check` writes nothing: it names what disagrees and exits 1. Commit the result, push it, and the
links work.
"""

import argparse
import re
import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
PLACE = "pyproject.toml"
PATTERNS = ("notebooks/*.ipynb", "README.md", "docs/*.md")
# How the addresses of a notebook, and of the whole, begin; {repo} and {branch} are filled in
FORMS = (
    "https://colab.research.google.com/github/{repo}/blob/{branch}/notebooks/",
    "https://kaggle.com/kernels/welcome?src=https://github.com/{repo}/blob/{branch}/notebooks/",
    "https://github.com/{repo}/archive/refs/heads/{branch}.zip",
)
WORD = r"[^)\s\"]+?"
# The same with any repository and branch, for what disagrees
ANYWHERE = [
    re.compile(re.escape(form).replace(r"\{repo\}", WORD).replace(r"\{branch\}", WORD))
    for form in FORMS
]
GIVEN = re.compile(r'(\[tool\.cdiff\.publish\].*?\nrepo = ")(.*?)("\nbranch = ")(.*?)(")', re.S)
REPO, BRANCH = re.compile(r"[\w.-]+/[\w.-]+"), re.compile(r"(?!-)[\w.-]+(/[\w.-]+)*")


def address(house: Path) -> tuple[str, str]:
    """The repository (owner/name) and the branch that pyproject.toml gives."""
    found = GIVEN.search((house / PLACE).read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{PLACE} has no [tool.cdiff.publish]; expected repo and branch there.")
    return found[2], found[4]


def forms(repo: str, branch: str) -> list[str]:
    """The beginnings of all addresses in that repository."""
    return [form.format(repo=repo, branch=branch) for form in FORMS]


def files(house: Path) -> list[Path]:
    """The files that name the address, pyproject.toml left out."""
    return [path for pattern in PATTERNS for path in sorted(house.glob(pattern))]


def publish(house: Path, repo: str, branch: str) -> list[str]:
    """Write the address into all files, whose other bytes stay; returns the names of those changed.

    Raises ValueError for what is no repository or branch.
    """
    for name, value, form, like in (
        ("repo", repo, REPO, "owner/name"),
        ("branch", branch, BRANCH, "a branch such as main"),
    ):
        if not form.fullmatch(value) or ".." in value:
            raise ValueError(f"{name} is {value!r}; expected {like}, as in the project's address.")
    changed = []
    for path in files(house):
        old = path.read_bytes().decode()  # bytes: line ends stay as they are
        new = old
        for anywhere, right in zip(ANYWHERE, forms(repo, branch)):
            new = anywhere.sub(right, new)
        if new != old:
            path.write_bytes(new.encode())
            changed.append(path.relative_to(house).as_posix())
    place = house / PLACE
    text = GIVEN.sub(rf"\g<1>{repo}\g<3>{branch}\g<5>", place.read_text(encoding="utf-8"))
    place.write_text(text, encoding="utf-8")
    return changed


def disagreements(house: Path) -> list[str]:
    """Each address that is not in the given repository, and each notebook's that is missing."""
    known, found = forms(*address(house)), []
    for path in files(house):
        name, text = path.relative_to(house).as_posix(), path.read_text(encoding="utf-8")
        for anywhere, right in zip(ANYWHERE, known):
            found += [
                f"{name}: {match[0]}" for match in anywhere.finditer(text) if match[0] != right
            ]
            if path.suffix == ".ipynb" and not anywhere.search(text):
                found.append(f"{name} lacks {right}")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repo", help="owner/name; the one given in pyproject.toml if left out")
    parser.add_argument("--branch", help="the one given in pyproject.toml if left out")
    parser.add_argument("--check", action="store_true", help="name what disagrees, write nothing")
    parser.add_argument("--house", type=Path, default=HOUSE, help="the project's folder")
    args = parser.parse_args(arguments)
    try:
        repo, branch = address(args.house)
        if not args.check:
            changed = publish(args.house, args.repo or repo, args.branch or branch)
            print("\n".join(changed) or "Nothing had to be changed.")
    except (ValueError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    wrong = disagreements(args.house)
    for line in wrong:
        print(f"not in {'@'.join(address(args.house))}: {line}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
