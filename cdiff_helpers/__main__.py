"""The course in a shell: cdiff, or python -m cdiff_helpers (--help)."""

import os
import signal
import sys

from cdiff_helpers.console import replace_unprintable
from cdiff_helpers.options import build_parser


def main(arguments: list[str] | None = None) -> int:
    """Run one verb: the exit status, 2 after a mistake, which is named in a sentence."""
    replace_unprintable()
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except (ValueError, OSError, RuntimeError, MemoryError, OverflowError) as error:
        print(f"cdiff_helpers {args.command}: {error or 'out of memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
            print(f"\nInterrupted: {str(error) or 'nothing was written'}.", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
