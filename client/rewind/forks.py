"""Which process this is, for stores that must not be used in a forked child.

Asking the system at each append costs more than the rest of the check, so the answer is kept and renewed after a fork.
"""

import os

_pid = os.getpid()


def current_pid() -> int:
    """Return this process's ID."""
    return _pid


def _renew() -> None:
    global _pid  # noqa: PLW0603 - it is the one thing this module keeps
    _pid = os.getpid()


os.register_at_fork(after_in_child=_renew)
