"""Mark one submission: python -m tools.mark_one REQUEST.json, called by tools.marker.

A submission is code that nobody trusts. This process reads it and never runs it: each exercise's
answer is run in a forked child of its own, which is killed from outside when its time is over, and
reports through a pipe. Answers are found by their names, so lost metadata, another order or cells
that came twice do no harm. What a process cannot hold is said in docs/instructors.md.
"""

import ast
import contextlib
import ctypes
import importlib
import json
import os
import re
import resource
import selectors
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

HOUSE = Path(__file__).resolve().parent.parent
LARGEST = 20_000_000  # bytes of a notebook
MOST_OUTPUT = 1_000_000  # bytes that an answer may print; more is thrown away
MEGABYTE = 2**20
WATCHED = ("torch", "numpy", "math", "builtins", "random", "time", "json", "os", "sys")
SUBREAPER = 36  # prctl: orphans of our children become ours, and can be found


@dataclass
class Candidate:
    """One definition of an answer: the cell's text that holds it."""

    source: str
    imported: bool  # from the package


@dataclass
class Reading:
    """What was found in a notebook: answers by name, what they may need, and what was odd."""

    answers: dict[str, list[Candidate]] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)  # imports and definitions, one text each
    flags: list[str] = field(default_factory=list)


@dataclass
class Mark:
    """An exercise's outcome: both checks' sentences, the share of the points, what was odd."""

    exercise: str
    visible: bool = False
    hidden: bool = False
    sentence: str = ""
    flags: list[str] = field(default_factory=list)


def read_notebook(path: Path, names: list[str], spine: list[str]) -> Reading:
    """The code cells of a submission, read and not run; what is odd is flagged.

    Cells that stand in the course's own notebook, `spine`, are no answers: they are left out.
    """
    reading = Reading()
    if path.stat().st_size > LARGEST:
        reading.flags.append(f"the file has more than {LARGEST // 10**6} MB and was not read")
        return reading
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if c.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reading.flags.append(f"this is no notebook ({type(error).__name__})")
        return reading
    if not any(c.get("metadata", {}).get("nbgrader") for c in cells if isinstance(c, dict)):
        reading.flags.append("metadata lost")
    order = []
    for source in sources:
        if without_spaces(source) in spine:
            continue
        order += read_cell(without_magics(source), names, reading)
    firsts = list(dict.fromkeys(order))
    if firsts != [name for name in names if name in firsts]:
        reading.flags.append("cells in another order")
    for name, found in reading.answers.items():
        if len(found) > 1:
            reading.flags.append(f"{name} is defined {len(found)} times")
    return reading


def without_spaces(source: str) -> str:
    """A cell's text without white space: the same however an editor laid it out."""
    return "".join(source.split())


def without_magics(source: str) -> str:
    """A cell whose IPython lines, such as %matplotlib or !pip, do nothing; plain Python stays."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        ast.parse(source)
        return source  # a line that begins with % goes on with a division
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def read_cell(source: str, names: list[str], reading: Reading) -> list[str]:
    """Sort a cell's statements into answers and what answers may need; returns its answers."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        reading.flags.append("a cell has a syntax error")
        return []
    found = []
    for node in body:
        bound = bound_names(node)
        for name in [name for name in names if name in bound and name not in found]:
            text, imported = source, isinstance(node, ast.Import | ast.ImportFrom)
            reading.answers.setdefault(name, []).append(Candidate(text, imported))
            found.append(name)
        if not found and isinstance(
            node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
        ):
            reading.shared.append(ast.unparse(node))
    return found


def bound_names(node: ast.stmt) -> set[str]:
    """The names that a top-level statement gives a value."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)}


def mark_candidate(exercise: str, candidate: Candidate, reading: Reading, request: dict) -> Mark:
    """Run one definition in a child and listen to it until it ends or its time is over."""
    report, output = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report[0])
        os.close(output[0])
        run_child(exercise, candidate, reading, request, report[1], output[1])
    os.close(report[1])
    os.close(output[1])
    said, printed, late = listen(report[0], output[0], request["timeout"])
    status = end(child)
    mark = Mark(exercise)
    try:
        mark = Mark(**json.loads(said))
    except (ValueError, TypeError):
        mark.sentence = (
            f"it did not end within {request['timeout']:g} s and was stopped"
            if late
            else f"it ended its process ({how_it_ended(status)}) before there was an answer"
        )
        mark.flags.append("too slow" if late else f"crashed: {how_it_ended(status)}")
    if printed > MOST_OUTPUT:
        mark.flags.append(f"printed {printed / 1e6:.0f} MB")
    return mark


def listen(report: int, output: int, seconds: float) -> tuple[str, int, bool]:
    """(what was reported, bytes that were printed, whether the time ran out)."""
    said, printed, end = b"", 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for pipe in (report, output):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, 65_536)
                if key.fd == report:
                    said += chunk[: MEGABYTE - len(said)]
                else:
                    printed += len(chunk)
                if not chunk:
                    selector.unregister(key.fd)
                if said.endswith(b"\n"):  # all is said; whatever still runs is ended
                    selector.unregister(report) if report in selector.get_map() else None
                    end = min(end, time.monotonic() + 0.2)
        late = not said.endswith(b"\n") and time.monotonic() >= end
    os.close(report)
    os.close(output)
    return said.decode(errors="replace"), printed, late


def end(child: int) -> int:
    """Kill the child, its group, and whatever it left behind; returns its exit status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ImportError):
        import psutil

        for left in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return status


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def run_child(exercise, candidate, reading, request, report: int, output: int) -> None:
    """Within the child: limits, the answer, both checks, the report; never returns."""
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        limit(request)
        mark = judged(exercise, candidate, reading, request)
        os.write(report, json.dumps(asdict(mark)).encode() + b"\n")
    except BaseException as error:
        mark = Mark(exercise, sentence=f"it raised {type(error).__name__}", flags=["raised"])
        os.write(report, json.dumps(asdict(mark)).encode() + b"\n")
    finally:
        os._exit(0)


def limit(request: dict) -> None:
    """Limits on time, memory and files of this process and those that it starts."""
    seconds = int(request["timeout"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * MEGABYTE, 10 * MEGABYTE))
    with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of this kind
        used = (
            int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
            * resource.getpagesize()
        )
        most = used + request["memory"] * MEGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def judged(exercise: str, candidate: Candidate, reading: Reading, request: dict) -> Mark:
    """Run the answer's text, hand it to the visible and to the hidden check."""
    import torch

    from cdiff_helpers.checks import EXERCISES

    entry = EXERCISES[exercise]
    hidden = hidden_checks(request["hidden"]).get(exercise)
    before, refused = snapshot(), guard(Path.cwd())
    namespace = collected(request["names"], reading.shared, candidate.source)
    mark = Mark(exercise, flags=restored(before))
    answer = namespace.get(exercise)
    if candidate.imported or str(getattr(answer, "__module__", "")).startswith("cdiff_helpers"):
        mark.flags.append("imports the answer from the package")
        mark.sentence = "the answer is the package's own; write one yourself"
        return mark
    torch.manual_seed(0)
    verdict = entry.judge(answer)
    mark.visible, mark.sentence = bool(verdict), verdict.sentence
    if verdict and hidden is None:
        mark.hidden = True
    elif verdict:
        for round_ in range(3):
            generator = torch.Generator().manual_seed(request["seed"] + round_)
            deeper = entry.judge(answer, lambda a, g=generator: hidden(a, g))
            mark.hidden = bool(deeper)
            if not deeper:
                mark.sentence = f"the shown cases pass, others do not: {deeper.sentence}"
                break
    mark.flags += [each for each in restored(before) if each not in mark.flags]
    mark.flags += sorted(set(refused))
    if verdict and disarmed(entry):
        mark.flags.append("checks disabled")
        mark.visible = mark.hidden = False
    return mark


def collected(names: dict, shared: list[str], source: str) -> dict:
    """The names that an answer's cell leaves: the notebook's imports, what it needs, the cell."""
    namespace = names | {"__name__": "submission"}
    for text in (*shared, source):
        with contextlib.suppress(Exception, SystemExit):  # what is defined before it counts
            exec(compile(text, "submission", "exec"), namespace)
    return namespace


def imported_names(imports: str) -> dict:
    """What the notebook's own import cells bring; they are ours, so they may run here."""
    namespace = {}
    exec(compile(imports, "imports", "exec"), namespace)
    return namespace


def disarmed(entry) -> bool:
    """Whether a check passes what nobody could take for an answer."""
    return bool(entry.judge(lambda *args, **keywords: "nonsense")) or bool(entry.judge("nonsense"))


def watched_modules() -> list[ModuleType]:
    """The modules whose names an answer must leave alone."""
    mine = [name for name in sys.modules if name.startswith("cdiff_helpers")]
    return [sys.modules[name] for name in [*WATCHED, *mine] if name in sys.modules]


def snapshot() -> list[tuple[object, dict]]:
    """What the watched modules' names, and the tensors' methods, stand for."""
    import torch

    owners = [*watched_modules(), torch.Tensor]
    return [(owner, dict(vars(owner))) for owner in owners]


def restored(before: list[tuple[object, dict]]) -> list[str]:
    """Put changed names back; returns a flag for each module that was changed."""
    flags = []
    for owner, names in before:
        changed = [name for name, value in names.items() if vars(owner).get(name) is not value]
        changed = [name for name in changed if not lawful(owner, name)]
        for name in changed:
            setattr(owner, name, names[name])
        if changed:
            flags.append(f"changes {owner.__name__}.{changed[0]}")
    return flags


def lawful(owner: object, name: str) -> bool:
    """Whether a module changed a name of its own, as torch does when a part is first used."""
    by = str(getattr(vars(owner).get(name), "__module__", "")).split(".")[0]
    return name.startswith("__") or by == owner.__name__.split(".")[0] == "torch"


WRITES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink")
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")


def guard(folder: Path) -> list[str]:
    """Refuse, from now on, the network, other programs, and files outside `folder`.

    Returns a list that grows by what was refused. Python's audit hooks see what Python does; code
    of another language they do not see.
    """
    refused, inside = [], str(folder.resolve())
    secret = tuple(str(HOUSE / name) for name in ("notebooks", "instructor", "tests"))

    def refuse(words: str) -> None:
        refused.append(words)
        raise PermissionError(f"{words}: an answer may not do this")

    def hook(event: str, args: tuple) -> None:
        if event.startswith("socket.") and event != "socket.__new__":
            refuse("opens the network")
        if event in STARTS:
            refuse("starts programs")
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(args[0]))
            mode, bits = args[1] or "", args[2] or 0
            writes = set(str(mode)) & set("wax+") or bits & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not path.startswith((inside, "/dev/null")):
                refuse("writes outside its folder")
            if path.startswith(secret):
                refuse("reads the solutions")
        if event in WRITES and not os.path.realpath(os.fsdecode(args[0])).startswith(inside):
            refuse("writes outside its folder")

    sys.addaudithook(hook)
    return refused


def hidden_checks(folder: str | None) -> dict:
    """The hidden checks of an instructor's folder, by exercise; {} where there is no folder."""
    if not folder:
        return {}
    found = {}
    for path in sorted(Path(folder).glob("[!_]*.py")):
        found |= importlib.import_module(f"{Path(folder).name}.{path.stem}").HIDDEN
    return found


def best(marks: Iterator[Mark]) -> Mark:
    """The mark that is worth most; the last of equals, as a notebook's last definition counts."""
    return max(reversed(list(marks)), key=lambda mark: (mark.hidden, mark.visible))


def main() -> None:
    """Mark what the request names, and print the marks as JSON."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with contextlib.suppress(OSError, AttributeError):  # Linux alone
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    names = request["exercises"]
    reading = read_notebook(Path(request["notebook"]), names, request["spine"])
    hidden_checks(request["hidden"])  # imported once, before the children
    request["names"] = imported_names(request["imports"])
    marks = []
    for name in names:
        candidates = reading.answers.get(name, [])
        found = [mark_candidate(name, each, reading, request) for each in candidates]
        marks.append(best(found) if found else Mark(name, sentence="not in the notebook"))
    result = {"marks": [asdict(mark) for mark in marks], "flags": reading.flags}
    Path(request["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
