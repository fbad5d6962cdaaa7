"""`python parent_death.py PID PROGRAM ARGUMENT…`: becomes a program that the kernel kills when its parent, PID, dies.

Even a parent that is killed with `kill -9` then leaves nothing behind. The request (`prctl(2)`, PR_SET_PDEATHSIG)
outlives `execve`. It is made in a process of its own, not between fork and exec of the parent, where calling Python
code is safe only as long as the parent has no threads. Two traps: the kernel means the parent's *thread*, so start
children from one that lives as long as they should; and the parent may die before the request is made, so its ID is
looked at after.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def dying_with_this_process(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command`, whose program is an absolute path, and dies with the process that asks."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def main() -> None:
    """Ask to die with the parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("rewind-node: the kernel does not offer PR_SET_PDEATHSIG; run on Linux")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(program[0], program)  # noqa: S606 - that is what this file is for


if __name__ == "__main__":
    main()
