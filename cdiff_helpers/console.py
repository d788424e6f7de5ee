"""Text on a console that may lack its characters: what cannot be shown becomes "?".

Imports nothing but the standard library, so that the shell's help need not wait for torch.
"""

import io
import sys


def printable(text: str) -> str:
    """The text with "?" for each character that stdout cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def safe_print(text: str) -> None:
    """Print a line on stdout whatever its encoding: no work is lost for a character."""
    print(printable(text))


def replace_unprintable() -> None:
    """From now on stdout and stderr replace what they cannot encode; one that is closed is none."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # as after `2>&-`, or under pythonw
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):  # Jupyter's have no such method, and are UTF-8
            stream.reconfigure(errors="replace")
