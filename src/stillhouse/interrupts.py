"""Interrupts that wait for a good moment.

A signal's exception can land between any two instructions of the main thread: inside an append to the log it would leave a
lock held, or an entry in the file that nobody counted. So the handler asks first: inside a ``shielded`` block it only takes
note, and the exception comes when the block is left.
"""

import contextlib
import threading
from collections.abc import Iterator
from types import FrameType


class _Gate:
    """How deep the main thread is in shielded blocks, and whether an interrupt waits."""

    depth = 0
    waiting = False


def handle(number: int, frame: FrameType | None) -> None:
    """A signal handler: raise KeyboardInterrupt now, or when the outermost shielded block ends."""
    if _Gate.depth:
        _Gate.waiting = True
    else:
        raise KeyboardInterrupt


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Run the block whole. Only the main thread is ever interrupted, so in others this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Gate.depth += 1
    try:
        yield
    finally:
        _Gate.depth -= 1
        if _Gate.waiting and not _Gate.depth:
            _Gate.waiting = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within a shielded block, the part that an interrupt may end: what is around it, its beginning and its end, stays whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        _Gate.depth -= 1
        if _Gate.waiting and not _Gate.depth:
            _Gate.waiting = False
            raise KeyboardInterrupt
        yield
    finally:
        _Gate.depth += 1
