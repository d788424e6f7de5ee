"""What runs a submission, in a process of its own: python -m cdiff_exercises.submission FOLDER

It knows inputs alone. FOLDER/request.json says which notebook, exercises and seeds; every answer
that the notebook defines goes through its trial, and the results are written into FOLDER for the
marker, which knows what is right. Nothing here decides about marks.
"""

import ast
import contextlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import save

from cdiff_exercises import room
from cdiff_exercises.answer import one_line
from cdiff_exercises.room import Results, run

MEGABYTE = 1_000_000
LARGEST = 20 * MEGABYTE  # of a notebook


@dataclass
class Reading:
    """What a notebook's code holds, read and not run."""

    answers: dict[str, list[str]] = field(default_factory=dict)  # the texts of cells, by exercise
    shared: list[str] = field(default_factory=list)  # imports and definitions that answers may use
    flags: list[str] = field(default_factory=list)  # what is odd


def limit(seconds: float, megabytes: int) -> None:
    """Limit this process and those that it starts, on systems that can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * MEGABYTE, 10 * MEGABYTE))
    with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of this kind
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        most = pages * resource.getpagesize() + megabytes * MEGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def read_notebook(path: Path, names: list[str], spine: list[str]) -> Reading:
    """The answers of a submission. Cells of the course's own notebook, `spine`, are none."""
    reading = Reading()
    if path.stat().st_size > LARGEST:
        reading.flags.append(f"the file has more than {LARGEST // MEGABYTE} MB and was not read")
        return reading
    try:
        cells = json.loads(path.read_text(encoding="utf-8-sig"))["cells"]
        sources = ["".join(c["source"]) for c in cells if c.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reading.flags.append(f"this is no notebook ({type(error).__name__})")
        return reading
    if not any(c.get("metadata", {}).get("nbgrader") for c in cells):
        reading.flags.append("metadata lost")
    for source in sources:
        if "".join(source.split()) not in spine:
            read_cell(without_magics(source), names, reading)
    for name, texts in reading.answers.items():
        if len(texts) > 1:
            reading.flags.append(f"{name} is defined {len(texts)} times")
    return reading


def without_magics(source: str) -> str:
    """A cell whose IPython lines, such as %matplotlib or !pip, do nothing; plain Python stays."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        ast.parse(source)
        return source  # a line that begins with % goes on with a division
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def read_cell(source: str, names: list[str], reading: Reading) -> None:
    """Sort a cell's statements into answers and what answers may need."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        reading.flags.append("a cell has a syntax error")
        return
    answers = {name for node in body for name in names if name in bound_names(node)}
    for name in answers:
        reading.answers.setdefault(name, []).append(source)
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    if not answers:
        reading.shared += [ast.unparse(node) for node in body if isinstance(node, kinds)]


def bound_names(node: ast.stmt) -> set[str]:
    """The names that a top-level statement gives a value."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)}


def results_of(name: str, source: str, namespace: dict, seeds: list[list[int]]) -> list[Results]:
    """Run an answer's cell, then the answer through its trial, once for each of the seeds."""
    problem = execute(source, namespace)
    if problem and name not in namespace:
        return [Results(stop="cell", sentence=f"its cell raised {problem}")] * len(seeds)
    answer = namespace.get(name)
    if str(getattr(answer, "__module__", "")).startswith("cdiff_helpers"):
        sentence = "the answer is the package's own; write one yourself"
        return [Results(stop="imported", sentence=sentence)] * len(seeds)
    return [run(name, answer, *seed) for seed in seeds]


def execute(source: str, namespace: dict) -> str:
    """Run a text; what was defined before it failed counts. Returns its error, "" for none."""
    try:
        exec(compile(source, "submission", "exec"), namespace)
    except (Exception, SystemExit) as error:
        return one_line(error)
    return ""


def write_results(path: Path, every: list[Results]) -> None:
    """Results for all seeds, as path.safetensors and path.json; the latter comes last."""
    tensors = {f"{i}/{k}": v.contiguous() for i, r in enumerate(every) for k, v in r.values.items()}
    path.with_suffix(".safetensors").write_bytes(save(tensors))
    ends = [{"stop": r.stop, "sentence": r.sentence[:2_000]} for r in every]
    path.with_suffix(".json").write_text(json.dumps(ends), encoding="utf-8")


def main(folder: Path) -> None:
    """Do what the request asks for; answers in its "skip" were tried before and are left out."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    imports: dict = {"__name__": "submission"}
    exec(request["imports"], imports)  # the course's own
    room.judge = lambda name, results: room.Verdict(name, False, "answers are being marked")
    sys.modules["exercises"] = None  # type: ignore[assignment]  # nothing private by accident
    limit(request["seconds"], request["megabytes"])
    reading = read_notebook(Path(request["notebook"]), request["exercises"], request["spine"])
    (folder / "flags.json").write_text(json.dumps(reading.flags), encoding="utf-8")
    for name in request["exercises"]:
        for number, source in enumerate(reading.answers.get(name, [])):
            if f"{name}-{number}" in request["skip"]:
                continue
            with (folder / "started").open("a", encoding="utf-8") as file:
                file.write(f"{name}-{number}\n")
            namespace = dict(imports)
            for text in reading.shared:
                execute(text, namespace)
            results = results_of(name, source, namespace, request["seeds"])
            write_results(folder / f"{name}-{number}", results)
    (folder / "done").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # threads that an answer has started wait for nobody
