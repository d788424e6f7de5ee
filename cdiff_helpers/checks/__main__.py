"""List the exercises: python -m cdiff_helpers.checks [--json]"""

import argparse
import json
from dataclasses import asdict

from cdiff_helpers.checks import EXERCISES
from cdiff_helpers.console import replace_unprintable

LISTED = ("name", "notebook", "kind", "points", "minutes", "signature", "misconceptions")


def listed() -> list[dict]:
    """Each exercise as a dict of its LISTED fields, in the notebooks' order."""
    entries = sorted(EXERCISES.values(), key=lambda entry: entry.notebook)
    return [{key: asdict(entry)[key] for key in LISTED} for entry in entries]


def main() -> None:
    """Print a line an exercise, or all that is known of them as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m cdiff_helpers.checks", description="List the course's exercises."
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
