"""Mark final tasks: python -m cdiff_helpers.checks.mark FOLDER … --seed S [--json]"""

import argparse
import json
from pathlib import Path

from cdiff_helpers.checks.final import LADDER, final_task_score
from cdiff_helpers.console import replace_unprintable

MEASURED = (
    "Measured: 0.09 untrained, 0.13 after the cpu preset's 200 updates, 0.20 after 51,840 images, "
    "0.33 after 120,320, 0.75 after the two-core record's 1,011,200."
)


def main(arguments: list[str] | None = None) -> None:
    """Print each folder's mark, or all that was found out as JSON."""
    steps = ", ".join(f"{points} points from {step:.2f}" for step, points in LADDER)
    parser = argparse.ArgumentParser(
        prog="python -m cdiff_helpers.checks.mark",
        description="Mark final tasks by the judge, on freshly generated images.",
        epilog=f"Steps of the agreement: {steps}. {MEASURED}",
    )
    parser.add_argument("folders", nargs="+", type=Path, help="each with the two files")
    parser.add_argument(
        "--seed", type=int, required=True, metavar="S", help="yours; image i is of seed S + i"
    )
    parser.add_argument(
        "--num-images", type=int, default=500, metavar="N", help="500 or more (default: 500)"
    )
    parser.add_argument("--json", action="store_true", help="for programs: one object a line")
    replace_unprintable()
    args = parser.parse_args(arguments)
    for folder in args.folders:
        score = final_task_score(folder, args.seed, args.num_images)
        words = f"{folder}: {score['points']} of {score['most']}. {score['sentence']}"
        print(json.dumps(score) if args.json else words)


if __name__ == "__main__":
    main()
