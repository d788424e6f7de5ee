"""Mark a folder of submissions: python -m exercises.mark FOLDER --out marks.csv --notebooks 03

A submission is FOLDER/STUDENT.ipynb, or FOLDER/STUDENT/….ipynb. A process of its own runs its
answers and writes their results; right and wrong are known here alone, where no answer runs.
"""

import argparse
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
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import psutil
from safetensors import SafetensorError
from safetensors.torch import load_file

import cdiff_exercises  # noqa: F401  (registers the exercises)
from cdiff_exercises.room import (
    EXERCISES,
    SHOWN_SEED,
    Results,
    difference,
    first_difference,
    judge,
    run,
)
from cdiff_helpers.runtime import write_atomically
from exercises.hand_out import HOUSE, exercises_of, import_cell, part_of, read, split_names
from exercises.private import ANSWERS

FINAL = "final_task"  # marked by the judge, from a run's folder
ROUNDS = 3  # of marking, with inputs of their own
STARTING = 60.0  # seconds that a process may take before its first answer


@dataclass(frozen=True)
class Limits:
    """What one answer may use, and how many submissions are marked at a time."""

    seconds: float = 10.0
    megabytes: int = 2_000  # on top of what torch takes
    jobs: int = 2


@dataclass(frozen=True)
class Task:
    """What was set: which exercises of which notebooks, tried with inputs from which seeds."""

    numbers: list[str]
    seed: int

    @property
    def names(self) -> list[str]:
        return [name for n in self.numbers for name in exercises_of(n) if name != FINAL]

    @property
    def seeds(self) -> list[list[int]]:
        return [[SHOWN_SEED], *([self.seed, 1 + i] for i in range(ROUNDS))]

    def right_results(self) -> dict[str, list[list[Results]]]:
        """What right answers give, by exercise, for each of the marking seeds."""
        return {name: [right_ones(name, seed) for seed in self.seeds[1:]] for name in self.names}

    def most(self) -> int:
        return sum(EXERCISES[name].points for name in self.names)


def right_ones(name: str, seed: list[int]) -> list[Results]:
    """What the solution gives for a seed; of a predicted number what each right one gives."""
    values = ANSWERS[name]["right"]
    every = [
        run(name, v, *seed) for v in (values if EXERCISES[name].kind == "predict" else values[:1])
    ]
    if every[0].stop:  # our fault, no student's
        raise ValueError(f"the answer to {name} fails for {seed}: {every[0].sentence}")
    return every


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

    def credit(self, name: str, points: float, sentence: str) -> None:
        """The best attempt at an exercise counts; of equal ones the last."""
        if points >= self.points.get(name, 0.0):
            self.points[name], self.sentences[name] = points, sentence


def submissions(folder: Path) -> list[Student]:
    """The students of a folder, in order of their names; raises ValueError for none."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected one with a submission each.")
    students = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir():
            every = sorted(path.rglob("*.ipynb"))
            students.append(Student(path.name, [p for p in every if "/." not in p.as_posix()]))
        elif path.suffix == ".ipynb":
            students.append(Student(path.stem, [path]))
    if not students:
        raise ValueError(f"{folder} holds no notebook and no folder; expected STUDENT.ipynb.")
    return students


def mark_folder(folder: Path, task: Task, limits: Limits) -> list[Student]:
    """Mark all submissions of a folder, `limits.jobs` at a time."""
    right, students = task.right_results(), submissions(folder)
    with ThreadPoolExecutor(limits.jobs) as pool:
        return list(pool.map(lambda each: mark_student(each, task, right, limits), students))


def mark_student(student: Student, task: Task, right: dict, limits: Limits) -> Student:
    """Mark all notebooks of a student; what goes wrong is a flag, never an exception."""
    try:
        if not student.notebooks:
            student.flags.append("no notebook handed in")
        for path in student.notebooks:
            mark_notebook(student, path, task, right, limits)
    except Exception as error:  # whatever a submission does, the next one is marked
        student.flags.append(f"could not be marked: {type(error).__name__}: {error}")
    for name in task.names:
        student.points.setdefault(name, 0.0)
        student.sentences.setdefault(name, "not in the notebook")
    return student


def mark_notebook(student: Student, path: Path, task: Task, right: dict, limits: Limits) -> None:
    """Have one notebook's answers run, and compare their results with the right ones."""
    with tempfile.TemporaryDirectory(prefix="marking-") as place:
        folder = Path(place)
        request = {
            "notebook": str(path.resolve()),
            "exercises": task.names,
            "imports": "\n".join(import_cell(number) for number in task.numbers),
            "spine": [text for number in task.numbers for text in spine(number)],
            "seeds": task.seeds,
            "seconds": limits.seconds * (1 + len(task.names)),
            "megabytes": limits.megabytes,
        }
        attempts = run_answers(request, folder, limits.seconds)
        if not (folder / "flags.json").exists():
            student.flags.append(f"{path.name}: it could not be read")
        with contextlib.suppress(OSError, ValueError):
            flags = json.loads((folder / "flags.json").read_text(encoding="utf-8"))
            student.flags += [str(flag)[:200] for flag in list(flags)[:20]]
        for attempt, end in attempts.items():
            name = attempt.rpartition("-")[0]
            if name in task.names:
                compare(student, name, read_results(folder / attempt), right[name], end)


def run_answers(request: dict, folder: Path, seconds: float) -> dict[str, str]:
    """{attempt: how it ended} of all answers; after one that ends its process the next goes on."""
    ends: dict[str, str] = {}
    while True:
        text = json.dumps(request | {"skip": list(ends)})
        (folder / "request.json").write_text(text, encoding="utf-8")
        (folder / "started").unlink(missing_ok=True)
        end = run_once(folder, seconds)
        started = [line for line in lines_of(folder / "started") if line not in ends]
        ends |= dict.fromkeys(started[:100], end)
        if not end or not started or len(ends) > 100:
            return ends


def lines_of(path: Path) -> list[str]:
    """The lines of a text that a submission may have spoiled, removed, or never begun."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def run_once(folder: Path, seconds: float) -> str:
    """Run the request until its end, or until an answer takes too long; "" or how it ended."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "cdiff_exercises.submission", str(folder)],
        cwd=work,
        env=environment(work),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started, end = folder / "started", time.monotonic() + STARTING
    size = 0
    try:
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
            now = started.stat().st_size if started.exists() else 0
            if now != size:
                size, end = now, time.monotonic() + seconds
        late, code = process.poll() is None, process.returncode
    finally:
        end_all(process)
    if late:
        return f"it did not end within {seconds:g} s and was stopped"
    return "" if (folder / "done").exists() else f"it ended its process ({how_it_ended(code)})"


def environment(work: Path) -> dict[str, str]:
    """What the process sees of ours: the course's public packages, and a home of its own."""
    paths = [str(HOUSE), str(HOUSE / "exercises"), os.environ.get("PYTHONPATH", "")]
    kept = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    return {key: os.environ[key] for key in kept if key in os.environ} | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "HOME": str(work),
        "TMPDIR": str(work),
        "CDIFF_HOME": str(work),
        "CDIFF_PRESET": "reduced",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": matplotlib.get_configdir(),  # its list of fonts takes long to make
    }


def end_all(process: subprocess.Popen) -> None:
    """Kill a process, its group, and what it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()


def how_it_ended(code: int) -> str:
    """An exit status in words."""
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def read_results(path: Path) -> list[Results]:
    """What a process wrote of an answer, for each seed; nothing where that is not well formed."""
    try:
        ends = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        tensors = load_file(path.with_suffix(".safetensors"))
        every = [Results(stop=str(e["stop"]), sentence=str(e["sentence"])) for e in ends]
        for key, value in tensors.items():
            number, name = key.split("/", 1)
            every[int(number)].values[name] = value.double()
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, SafetensorError):
        return []
    return every


def compare(student: Student, name: str, every: list[Results], right: list, end: str):
    """All points for results that are right for all marking seeds; the shown one says why not."""
    points = EXERCISES[name].points
    if len(every) != 1 + len(right):
        student.flags.append(f"{name}: {end or 'no result'}")
        return student.credit(name, 0.0, end or "it left no result")
    verdict = judge(name, every[0])
    if not verdict:
        return student.credit(name, 0.0, verdict.sentence)
    for results, ones in zip(every[1:], right):
        if all(first_difference(results, expected) is not None for expected in ones):
            how = difference(EXERCISES[name], results, ones[0])
            return student.credit(name, 0.0, f"the shown cases pass, others do not: {how}")
    return student.credit(name, points, verdict.sentence)


def spine(number: str) -> list[str]:
    """The notebook's own code cells, its exercises left out, without white space."""
    own = [c for c in read(number).cells if c.cell_type == "code" and not part_of(c)]
    return ["".join(cell.source.split()) for cell in own]


def marks_csv(students: list[Student], task: Task) -> str:
    """One line per student: points per exercise, their sum, and what was odd."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["student", *task.names, "total", "out of", "flags"])
    for student in students:
        points = [f"{student.points[name]:g}" for name in task.names]
        flags = "; ".join(dict.fromkeys(student.flags))
        name = re.sub(r"^[=+\-@\t\r]", "_", student.name)  # a spreadsheet would compute it
        writer.writerow([name, *points, f"{student.total:g}", task.most(), flags])
    return text.getvalue()


def feedback(student: Student, task: Task) -> str:
    """A student's page, in Markdown."""
    lines = [f"# {student.name}", "", f"**{student.total:g} of {task.most()} points**", ""]
    for name in task.names:
        sentence = re.sub(r"[<>`|]", " ", student.sentences[name])[:2_000].replace("\n", " ")
        marks = f"{student.points[name]:g} of {EXERCISES[name].points}"
        lines += [f"## {name}", f"{marks}: {sentence}", ""]
    if student.flags:
        odd = [re.sub(r"[<>`|]", " ", flag) for flag in dict.fromkeys(student.flags)]
        lines += ["## Noticed", *[f"- {flag}" for flag in odd]]
    return "\n".join(lines) + "\n"


def write_marks(students: list[Student], task: Task, out: Path) -> Path:
    """The CSV, and a numbered page per student in a folder beside it; returns that folder."""
    pages = out.parent / f"{out.stem}-feedback"
    pages.mkdir(parents=True, exist_ok=True)
    for number, student in enumerate(students, 1):
        name = re.sub(r"[^\w.-]", "_", student.name)
        write_atomically(pages / f"{number:03}-{name}.md", feedback(student, task).encode())
    write_atomically(out, marks_csv(students, task).encode())
    return pages


def main(arguments: list[str] | None = None) -> int:
    """Mark a folder; a mistake ends in a sentence, with exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="STUDENT.ipynb or STUDENT/….ipynb in it")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file of marks")
    parser.add_argument("--notebooks", required=True, help="what was set, such as 03 or 03,04")
    parser.add_argument("--seed", type=int, required=True, help="of the marking's inputs: yours")
    parser.add_argument("--jobs", type=int, default=2, help="submissions at a time")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for an answer")
    parser.add_argument("--memory", type=int, default=2_000, help="MB on top of torch")
    args = parser.parse_args(arguments)
    try:
        if args.seed < 0 or args.jobs < 1:
            raise ValueError(
                f"--seed is {args.seed}, --jobs {args.jobs}; expected 0 or more, 1 or more."
            )
        if not (numbers := list(split_names(args.notebooks))):
            raise ValueError("--notebooks names none; expected such as 03 or 03,04.")
        task = Task(numbers, args.seed)
        limits = Limits(args.timeout, args.memory, args.jobs)
        students = mark_folder(args.folder, task, limits)
        pages = write_marks(students, task, args.out)
    except (ValueError, OSError) as error:
        print(f"mark: {error}", file=sys.stderr)
        return 2
    odd = sum(bool(student.flags) for student in students)
    print(f"{args.out}: {len(students)} submissions, {odd} of them with flags; pages in {pages}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
