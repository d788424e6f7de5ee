"""List the exercises: python -m cdiff_exercises [--json]"""

import argparse
import json

from cdiff_exercises.room import EXERCISES, texts
from cdiff_helpers.console import replace_unprintable


def listed() -> list[dict]:
    """What is public of each exercise, its known mistakes' hints too, in the notebooks' order."""
    entries = []
    for entry in sorted(EXERCISES.values(), key=lambda each: each.notebook):
        fields = {key: value for key, value in vars(entry).items() if key != "trial"}
        hints = dict(texts(entry.name))
        del hints["right"]
        entries.append(fields | {"hints": hints})
    return entries


def main() -> None:
    """Print a line per exercise, or all that is public of them as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m cdiff_exercises", description="List the course's exercises."
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    replace_unprintable()
    if parser.parse_args().json:
        print(json.dumps(listed(), indent=1, ensure_ascii=False))
        return
    for each in listed():
        points = f"{each['points']} points, {each['minutes']} min"
        print(f"{each['notebook']}  {each['kind']:8} {points:18} {each['signature']}")


if __name__ == "__main__":
    main()
