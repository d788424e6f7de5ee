"""Store what the checks compare with: the known answers' results and their hints, no code.

python -m exercises.build            writes cdiff_exercises/expected, prints what has been proven
python -m exercises.build --check    writes nothing; exits 1 and names what is stale
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from cdiff_exercises.room import EXERCISES, EXPECTED, SHOWN_SEED, Results, first_difference, run
from exercises.hand_out import printed_bug
from exercises.private import ANSWERS

SAME = 1e-5  # relative: what differs less is another machine's last digits


def known_answers(name: str) -> list[tuple[str, object]]:
    """(mistake's key, answer) for all known answers, "" for right ones, which come first."""
    answers = ANSWERS[name]
    known = [("", value) for value in answers.right]
    for key, values in answers.mistakes.items():
        known += [(key, value) for value in (values or [printed_bug(name)])]
    return known


def results_of(name: str) -> list[tuple[str, Results]]:
    """The distinct results of all known answers; raises ValueError where they contradict."""
    distinct: list[tuple[str, Results]] = []
    for key, value in known_answers(name):
        results = run(name, value, SHOWN_SEED)
        same = [k for k, other in distinct if first_difference(results, other) is None]
        if same and same[0] != key:
            raise ValueError(f"{name}: {key or 'a right answer'} gives the results of {same[0]!r}.")
        if not key and results.stop:
            raise ValueError(f"{name}: a right answer is refused: {results.sentence}")
        if not key and distinct and not same and EXERCISES[name].kind != "predict":
            raise ValueError(f"{name}: two right answers differ. {results}")
        if results.stop.startswith("raised") and not results.values and key:
            raise ValueError(f"{name}: {key} fails at once, as many slips do: {results.sentence}")
        if not same:
            distinct.append((key, results))
    return distinct


def stored_form(name: str) -> tuple[dict, dict[str, Tensor]]:
    """The texts and the tensors of an exercise's two files."""
    answers = ANSWERS[name]
    texts = {"": answers.praise} | answers.hints
    if answers.otherwise:
        texts["otherwise"] = answers.otherwise
    entries, tensors, tolerances = [], {}, {}
    for number, (key, results) in enumerate(results_of(name)):
        entries.append({"mistake": key, "stop": results.stop})
        tolerances |= results.tolerances
        tensors |= {f"{number}/{k}": v.float().contiguous() for k, v in results.values.items()}
    return {"texts": texts, "answers": entries, "tolerances": tolerances}, tensors


def stale(path: Path, text: str, tensors: dict[str, Tensor]) -> bool:
    """Whether the files beside `path` hold something else than these, rounding left out."""
    numbers = path.with_suffix(".safetensors")
    if not (path.is_file() and numbers.is_file() and path.read_text(encoding="utf-8") == text):
        return True
    stored = load_file(numbers)
    return stored.keys() != tensors.keys() or not all(
        stored[key].shape == value.shape and torch.allclose(stored[key], value, SAME, SAME)
        for key, value in tensors.items()
    )


def build(write: bool) -> list[str]:
    """The names of files that are not what the answers give; with `write` they are mended."""
    changed = []
    expected_files = set()
    for name in EXERCISES:
        path = EXPECTED / f"{name}.json"
        texts, tensors = stored_form(name)
        text = json.dumps(texts, indent=1, ensure_ascii=False) + "\n"
        expected_files |= {path, path.with_suffix(".safetensors")}
        if stale(path, text, tensors):
            changed.append(name)
            if write:
                path.write_text(text, encoding="utf-8")
                path.with_suffix(".safetensors").write_bytes(save(tensors))
    for path in sorted(set(EXPECTED.glob("*")) - expected_files):  # of an exercise that is gone
        changed.append(path.name)
        if write:
            path.unlink()
    return changed


def proven() -> str:
    """How many exercises there are, and what their checks have been tried on, in words."""
    asked = [entry for entry in EXERCISES.values() if entry.kind != "taught"]
    kinds = Counter(entry.kind for entry in asked)
    answers = [(key, name) for name in EXERCISES for key, _ in known_answers(name)]
    wrong = sum(bool(key) for key, _ in answers)
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
    changed = build(write=not check)
    if changed:
        print("stale:" if check else "written:", ", ".join(changed))
    print(proven())
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
