"""Store what the checks compare with: the known answers' results on the shown seed, no code.

python -m exercises.build            writes cdiff_exercises/expected, prints what has been proven
python -m exercises.build --check    writes nothing; exits 1 and names what is stale
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cdiff_exercises.room import (
    EXERCISES,
    EXPECTED,
    SHOWN_SEED,
    Results,
    first_difference,
    run,
    texts,
)
from exercises.hand_out import printed_bug, solution, source_of
from exercises.private import ANSWERS

SAME = 1e-5  # relative: what differs less is another machine's last digits


def is_whole(name: str) -> None:
    """Raise ValueError for an exercise that lacks answers, texts, or a cell of its notebook."""
    if name not in ANSWERS:
        raise ValueError(f"{name} has no answers in exercises/private.")
    keys = {*ANSWERS[name]} | ({"unchanged"} if EXERCISES[name].kind == "bug" else set())
    if keys != texts(name).keys() - {"otherwise"}:
        raise ValueError(f"{name}: answers {sorted(keys)}, texts {sorted(texts(name))}.")
    if EXERCISES[name].kind != "taught":
        for part in ("task", "answer", "check"):
            source_of(name, part)
        solution(name)


def known_answers(name: str) -> list[tuple[str, object]]:
    """(key, answer) for all known answers, "right" ones first."""
    known = []
    for key, values in ANSWERS[name].items():
        known += [(key, value) for value in values]
    return known + ([("unchanged", printed_bug(name))] if EXERCISES[name].kind == "bug" else [])


def results_of(name: str) -> list[tuple[str, Results]]:
    """The distinct results of all known answers; raises ValueError where they contradict."""
    distinct: list[tuple[str, Results]] = []
    for key, value in known_answers(name):
        results = run(name, value, SHOWN_SEED)
        same = [k for k, other in distinct if first_difference(results, other) is None]
        if same and same[0] != key:
            raise ValueError(f"{name}: {key} gives the results of {same[0]}.")
        if key == "right" and results.stop:
            raise ValueError(f"{name}: a right answer is refused: {results.sentence}")
        if key == "right" and distinct and not same and EXERCISES[name].kind != "predict":
            raise ValueError(f"{name}: two right answers differ. {results}")
        if key != "right" and results.stop.startswith("raised") and not results.values:
            raise ValueError(f"{name}: {key} fails at once, as many slips do: {results.sentence}")
        if not same:
            distinct.append((key, results))
    return distinct or [("right", Results())]  # the trial alone decides


def stored_form(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of an exercise's file, and its metadata: how each answer ended, tolerances."""
    tensors, ends, tolerances = {}, [], {}
    for number, (key, results) in enumerate(results_of(name)):
        ends.append([key, results.stop])
        tolerances |= results.tolerances
        tensors |= {f"{number}/{k}": v.float().contiguous() for k, v in results.values.items()}
    return tensors, {"ends": json.dumps(ends), "tolerances": json.dumps(tolerances)}


def stale(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> bool:
    """Whether a file holds something else than these, rounding left out."""
    if not path.is_file():
        return True
    with safe_open(path, "pt") as file:
        stored, same = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() == about  # noqa: SIM118
    return not (same and stored.keys() == tensors.keys()) or not all(
        stored[key].shape == value.shape and torch.allclose(stored[key], value, SAME, SAME)
        for key, value in tensors.items()
    )


def build(write: bool) -> list[str]:
    """The names of files that are not what the answers give; with `write` they are mended."""
    changed, paths = [], {EXPECTED / f"{name}.safetensors" for name in EXERCISES}
    for path in sorted(paths):
        is_whole(path.stem)
        tensors, about = stored_form(path.stem)
        if stale(path, tensors, about):
            changed.append(path.name)
            if write:
                path.write_bytes(save(tensors, about))
    for path in sorted(set(EXPECTED.glob("*")) - paths):  # of an exercise that is gone
        changed.append(path.name)
        if write:
            path.unlink()
    return changed


def proven() -> str:
    """How many exercises there are, and what their checks have been tried on, in words."""
    asked = [entry for entry in EXERCISES.values() if entry.kind != "taught"]
    kinds = Counter(entry.kind for entry in asked)
    answers = [(key, name) for name in EXERCISES for key, _ in known_answers(name)]
    wrong = sum(key != "right" for key, _ in answers)
    return (
        f"{len(asked)} exercises: {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}; "
        f"{len(EXERCISES) - len(asked)} more checks of definitions that may be blanked.\n"
        f"{wrong} wrong answers are refused with the hint for their mistake, "
        f"{len(answers) - wrong} right ones pass."
    )


def main() -> int:
    """Build, or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    try:
        changed = build(write=not check)
    except ValueError as error:
        print(f"build: {error}", file=sys.stderr)
        return 2
    if changed:
        print("stale:" if check else "written:", ", ".join(changed))
    print(proven())
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
