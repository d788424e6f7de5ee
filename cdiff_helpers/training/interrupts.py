"""Signals that wait until an update is whole."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IMPATIENT = 5.0  # seconds after which a second interrupt is not held: something hangs
STOPPING = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C and Jupyter's Stop; a job that is ended


class Interrupted(KeyboardInterrupt):
    """Training was interrupted between two updates. `number` is the signal's."""

    def __init__(self, message: str = "", number: int = signal.SIGINT):
        super().__init__(message)
        self.number = int(number)


@contextmanager
def interrupts_held() -> Iterator[Callable[[], int]]:
    """Within this block an interrupt only sets what the yielded function tells: its number, else 0.

    One that comes five seconds after the first stops at once, with KeyboardInterrupt. Python
    delivers signals to the main thread alone; in another one nothing is held.
    """
    came: list[tuple[int, float]] = []

    def note(number: int, _) -> None:
        if came and time.monotonic() - came[0][1] > IMPATIENT:
            raise KeyboardInterrupt("stopped within an update; the last checkpoint is as it was")
        came.append((number, time.monotonic()))

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield lambda: came[0][0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
