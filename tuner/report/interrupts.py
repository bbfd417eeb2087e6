"""Ctrl-C between two looks at a study, never in the middle of one."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupts() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits for so many seconds and returns whether Ctrl-C came.

    KeyboardInterrupt may come inside a callback that swallows it; this cannot get lost. In another
    thread than the main one, which Ctrl-C does not reach, it just waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event().wait
        return
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    wakes = signal.set_wakeup_fd(telling)
    try:
        yield lambda seconds: bool(select.select([told], [], [], seconds)[0])
    finally:
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGINT, before)
        os.close(told)
        os.close(telling)
