"""Hand out exercises and mark them.

python -m tools.assignment release | mark | audit (--help).

docs/instructors.md says how to go about it, and what the marker can hold and what it cannot.
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from cdiff_helpers.checks import EXERCISES

HOUSE = Path(__file__).resolve().parent.parent


def release_command(args: argparse.Namespace) -> None:
    """Write the student's version of a notebook."""
    from tools.release import release

    names = {"blank": split(args.blank), "only": split(args.exercises)}
    print(f"{release(args.notebook, args.to, **names)} is ready to be handed out.")


def mark_command(args: argparse.Namespace) -> None:
    """Mark all submissions of a folder."""
    from tools.marker import Limits, mark_folder, write_marks

    numbers = list(split(args.notebooks))
    limits = Limits(args.timeout, args.memory, args.jobs, args.hidden, args.seed)
    students = mark_folder(args.folder, numbers, limits)
    pages = write_marks(students, numbers, args.out)
    odd = sum(bool(student.flags) for student in students)
    print(f"{args.out}: {len(students)} submissions, {odd} of them with flags; pages in {pages}.")


def audit_command(args: argparse.Namespace) -> None:
    """Count exercises, wrong answers that are refused with their hint, and right ones that pass."""
    from instructor.mutants import ANSWERS

    asked = [entry for entry in EXERCISES.values() if entry.kind != "taught"]
    kinds = Counter(entry.kind for entry in asked)
    books = Counter(entry.notebook for entry in asked)
    print(f"{len(asked)} exercises: {words(kinds)}; by notebook: {words(books)}")
    print(f"{len(EXERCISES) - len(asked)} more checks of definitions that may be blanked")
    verdicts = [(answer, EXERCISES[answer.exercise].judge(answer.value)) for answer in ANSWERS]
    wrong = [(a, v) for a, v in verdicts if a.misconception]
    hinted = sum(not v and v.misconception == a.misconception for a, v in wrong)
    passed = [bool(v) for a, v in verdicts if not a.misconception]
    print(
        f"{hinted} of {len(wrong)} wrong answers are refused with the hint for their misconception"
    )
    print(f"{sum(passed)} of {len(passed)} right answers in another style pass")
    if hinted < len(wrong) or not all(passed):
        raise ValueError("a check answers wrongly; pytest tests/test_mutants.py says which.")


def words(count: Counter) -> str:
    """A count in words, such as "12 build, 6 bug"."""
    return ", ".join(f"{number} {name}" for name, number in sorted(count.items()))


def split(text: str) -> tuple[str, ...]:
    """Names that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("release", help="make the student's version of a notebook")
    one.add_argument("notebook", help="its number, such as 03")
    one.add_argument("--to", type=Path, required=True, help="the folder to write it into")
    one.add_argument("--blank", default="", help="definitions to empty, such as add_noise")
    one.add_argument("--exercises", default="", help="these alone, such as linear_alpha_bar")
    one.set_defaults(run=release_command)
    two = commands.add_parser("mark", help="mark a folder of submissions")
    two.add_argument("folder", type=Path, help="STUDENT.ipynb or STUDENT/….ipynb in it")
    two.add_argument("--out", type=Path, required=True, help="the CSV file of marks")
    two.add_argument("--notebooks", required=True, help="what was set, such as 03 or 03,04")
    two.add_argument("--hidden", help="folder of hidden checks, such as instructor/hidden")
    two.add_argument("--seed", type=int, default=0, help="of the hidden checks' cases: yours")
    two.add_argument("--jobs", type=int, default=2, help="submissions at a time")
    two.add_argument("--timeout", type=float, default=10.0, help="seconds for an answer")
    two.add_argument("--memory", type=int, default=2_000, help="MB for an answer, on top of torch")
    two.set_defaults(run=mark_command)
    three = commands.add_parser("audit", help="count exercises and what their checks refuse")
    three.set_defaults(run=audit_command)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a mistake is told in a sentence, with exit status 2."""
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        print(f"assignment {args.command}: {error}", file=sys.stderr)
        return 2
    return 0


def run_as_module() -> int:
    """Go on as `python -m`: run by its path, a program does not find the rest of the course."""
    paths = [str(HOUSE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tools.assignment", *sys.argv[1:]]
    return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main() if __package__ else run_as_module())
