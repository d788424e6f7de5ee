"""The exercises' checks: `from cdiff_exercises import check`, then `check.NAME(answer)`.

One file per notebook; `python -m cdiff_exercises` lists them, with --json for programs.
"""

import importlib
import pkgutil

from cdiff_exercises.room import check

for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("nb"):
        importlib.import_module(f"{__name__}.{_module.name}")
