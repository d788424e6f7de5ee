"""What not every system has."""

import os
import shutil

import pytest

REASON = "needs what Windows lacks: fork, signals between processes, scripts of sh, or links"
posix_only = pytest.mark.skipif(os.name != "posix", reason=REASON)


def needs_program(name: str):
    """Skip where the program is not installed."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed here")
