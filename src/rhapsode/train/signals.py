"""Ctrl-C and SIGTERM as a wish that the loop grants at the next safe place."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopWish:
    """`code` is the exit code that a wish asks for: 130 for SIGINT, 143 for SIGTERM; None while there is none."""

    def __init__(self) -> None:
        self.code: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 128 + number


@contextlib.contextmanager
def stop_wishes() -> Iterator[StopWish]:
    """Listen until the block ends. A second Ctrl-C does not wait. Off the main thread nothing is listened to."""
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
