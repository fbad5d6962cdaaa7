"""Calls of a store that are made in threads of their own, because they are to wait."""

import threading
from collections.abc import Callable

import rewind

CallInThread = tuple[threading.Thread, list[object]]  # and what the call gave or raised, once it has ended


def in_a_thread(call: Callable[[], object]) -> CallInThread:
    """Make a call in a thread, which does not keep the tests from ending."""
    ends: list[object] = []

    def run() -> None:
        try:
            ends.append(call())
        except rewind.RewindError as error:
            ends.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ends
