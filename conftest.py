"""How the tests run: the reduced preset, one thread a process, the course folder out of the way."""

import os
import tempfile

os.environ["CDIFF_PRESET"] = "reduced"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers share the cores
os.environ.setdefault("CDIFF_HOME", tempfile.mkdtemp(prefix="cdiff-tests-"))
# Both reach the notebooks' kernels and pytest's workers, which inherit the environment.


def pytest_report_header() -> str:
    return (
        "not run by plain pytest: long tests (pytest -m slow) and comparisons with diffusers "
        "(pip install -r requirements-bench.txt && pytest -m peer)"
    )
