"""How the tests run: the reduced preset, one thread a process, the course folder out of the way."""

import os
import tempfile

from benchmarks.lab import what_is_missing

os.environ["CDIFF_PRESET"] = "reduced"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers share the cores
os.environ.setdefault("CDIFF_HOME", tempfile.mkdtemp(prefix="cdiff-tests-"))
# Both reach the notebooks' kernels and pytest's workers, which inherit the environment.


def pytest_report_header() -> list[str]:
    left_out = (
        "not run by plain pytest: long tests (pytest -m slow) and comparisons with diffusers "
        "(pip install -r requirements-bench.txt && pytest -m peer)"
    )
    missing = what_is_missing()
    return [left_out, f"skipped: {missing}"] if missing else [left_out]
