"""Mark a folder of submissions, each in a process of its own: `tools.assignment mark` calls it.

A submission is FOLDER/STUDENT.ipynb, or FOLDER/STUDENT/….ipynb. Marking one never stops the others.
"""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
import nbformat

from cdiff_helpers.checks import EXERCISES
from cdiff_helpers.runtime import write_atomically
from tools.release import HOUSE, exercises_of, notebook_path, part_of

FINAL = "final_task"  # marked by the judge, from a checkpoint's folder


@dataclass(frozen=True)
class Limits:
    """What one answer may use, and how many submissions are marked at a time."""

    timeout: float = 10.0  # seconds
    memory: int = 2_000  # MB on top of what torch takes
    jobs: int = 2
    hidden: str | None = None  # folder of the hidden checks
    seed: int = 0  # of the hidden checks' random cases


@dataclass
class Student:
    """One student's submission and what it is worth."""

    name: str
    notebooks: list[Path]
    points: dict[str, float] = field(default_factory=dict)
    sentences: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(self.points.values())


def submissions(folder: Path) -> list[Student]:
    """The students of a folder, in order of their names; raises ValueError for none."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected one with a submission each.")
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            found.append(Student(path.name, sorted(path.rglob("*.ipynb"))))
        elif path.suffix == ".ipynb":
            found.append(Student(path.stem, [path]))
    if not found:
        raise ValueError(f"{folder} holds no notebook and no folder; expected STUDENT.ipynb.")
    return found


def asked_exercises(numbers: list[str]) -> list[str]:
    """The exercises of these notebooks that a marker can look up, in their order."""
    return [name for number in numbers for name in exercises_of(number) if name != FINAL]


def mark_student(student: Student, numbers: list[str], limits: Limits) -> Student:
    """Mark all notebooks of a student; what goes wrong is a flag, never an exception."""
    try:
        if not student.notebooks:
            student.flags.append("no notebook handed in")
        for path in student.notebooks:
            mark_notebook(student, path, numbers, limits)
    except Exception as error:  # whatever a submission does, the next one is marked
        student.flags.append(f"could not be marked: {type(error).__name__}: {error}")
    for name in asked_exercises(numbers):
        student.points.setdefault(name, 0.0)
        student.sentences.setdefault(name, "not handed in")
    return student


def mark_notebook(student: Student, path: Path, numbers: list[str], limits: Limits) -> None:
    """Mark one notebook in a process of its own; a student's best attempt at each counts."""
    names = asked_exercises(numbers)
    with tempfile.TemporaryDirectory(prefix="marking-") as place:
        request = {
            "notebook": str(path.resolve()),
            "exercises": names,
            "imports": "\n".join(import_cell(number) for number in numbers),
            "spine": [text for number in numbers for text in spine(number)],
            "result": str(Path(place) / "result.json"),
            "timeout": limits.timeout,
            "memory": limits.memory,
            "hidden": limits.hidden and str(Path(limits.hidden).resolve()),
            "seed": limits.seed,
        }
        asked, work = Path(place) / "request.json", Path(place) / "work"
        asked.write_text(json.dumps(request), encoding="utf-8")
        work.mkdir()
        command = [sys.executable, "-m", "tools.mark_one", str(asked)]
        run_apart(command, work, 60 + 3 * limits.timeout * 8, limits.hidden)
        try:
            result = json.loads(Path(request["result"]).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            student.flags.append(f"{path.name}: its marking was broken off")
            return
    student.flags += result["flags"]
    for mark in result["marks"]:
        name = mark["exercise"]
        points = worth(name, mark)
        student.flags += [f"{name}: {flag}" for flag in mark["flags"]]
        if name not in student.points or points > student.points[name]:
            student.points[name], student.sentences[name] = points, mark["sentence"]


def worth(name: str, mark: dict) -> float:
    """All points where both checks pass, half of them where only the shown one does."""
    share = 1.0 if mark["visible"] and mark["hidden"] else 0.5 if mark["visible"] else 0.0
    return share * EXERCISES[name].points


def run_apart(command: list[str], folder: Path, seconds: float, hidden: str | None) -> None:
    """Run a command in a process group of its own, and end the group when it is over.

    It can import the course and, as a package, the folder of hidden checks.
    """
    environment = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    places = [HOUSE, hidden and Path(hidden).resolve().parent, os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(str(place) for place in places if place)
    environment |= {"OMP_NUM_THREADS": "1", "HOME": str(folder), "MPLBACKEND": "agg"}
    environment |= {"CDIFF_HOME": str(folder), "CDIFF_PRESET": "reduced", "TMPDIR": str(folder)}
    environment["MPLCONFIGDIR"] = matplotlib.get_configdir()  # its list of fonts takes long to make
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def import_cell(number: str) -> str:
    """The notebook's own import cell, which every answer may rely on: the second one."""
    notebook = nbformat.read(notebook_path(number), as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"][1]


@cache
def spine(number: str) -> list[str]:
    """The notebook's own code cells, its exercises left out, without white space."""
    notebook = nbformat.read(notebook_path(number), as_version=4)
    own = [c for c in notebook.cells if c.cell_type == "code" and not part_of(c)]
    return ["".join(cell.source.split()) for cell in own]


def mark_folder(folder: Path, numbers: list[str], limits: Limits) -> list[Student]:
    """Mark all submissions of a folder, `limits.jobs` at a time."""
    if not hasattr(os, "fork"):
        raise ValueError("marking needs Linux or macOS: it runs each answer in a forked process.")
    students = submissions(folder)
    with ThreadPoolExecutor(limits.jobs) as pool:
        return list(pool.map(lambda each: mark_student(each, numbers, limits), students))


def marks_csv(students: list[Student], numbers: list[str]) -> str:
    """One line a student: points an exercise, their sum, and what was odd."""
    names = asked_exercises(numbers)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["student", *names, "total", "out of", "flags"])
    most = sum(EXERCISES[name].points for name in names)
    for student in students:
        points = [f"{student.points[name]:g}" for name in names]
        flags = "; ".join(dict.fromkeys(student.flags))
        name = re.sub(r"^[=+\-@\t\r]", "_", student.name)  # a spreadsheet would compute it
        writer.writerow([name, *points, f"{student.total:g}", most, flags])
    return text.getvalue()


def feedback(student: Student, numbers: list[str]) -> str:
    """A student's page, in Markdown."""
    names = asked_exercises(numbers)
    most = sum(EXERCISES[name].points for name in names)
    lines = [f"# {student.name}", "", f"**{student.total:g} of {most} points**", ""]
    for name in names:
        entry = EXERCISES[name]
        sentence = re.sub(r"[<>`|]", " ", student.sentences[name])[:2_000].replace("\n", " ")
        lines += [f"## {name}", f"{student.points[name]:g} of {entry.points}: {sentence}", ""]
    if student.flags:
        odd = [re.sub(r"[<>`|]", " ", flag) for flag in dict.fromkeys(student.flags)]
        lines += ["## Noticed", *[f"- {flag}" for flag in odd]]
    return "\n".join(lines) + "\n"


def write_marks(students: list[Student], numbers: list[str], out: Path) -> Path:
    """The CSV, and a page a student in `feedback/` beside it; returns that folder."""
    pages = out.parent / "feedback"
    pages.mkdir(parents=True, exist_ok=True)
    for student in students:
        name = re.sub(r"[^\w.-]", "_", student.name)
        write_atomically(pages / f"{name}.md", feedback(student, numbers).encode())
    write_atomically(out, marks_csv(students, numbers).encode())
    return pages
