"""What a run may find: a broken promise, a cluster that does not come back, code that breaks down."""

import traceback
from dataclasses import dataclass
from pathlib import Path

from histories.history import Operation
from histories.violations import Violation

import rewind
import rewind_cluster
import rewind_node

CORE_CRASH = "crash of the core"
CLIENT_CRASH = "crash of the client"
SIMULATOR_CRASH = "crash of the simulator"
NO_SERVICE = "partition does not serve"
NO_CATCH_UP = "replica does not catch up"
CONSUMER_BEHIND = "consumer stays behind"
GROUP_BEHIND = "group stays behind"
TERMS_RISE = "terms rise"
CALL_NEVER_ENDS = "call never ends"
SURPRISE = "error without a reason"

_OWNERS = {  # whose code it was that broke down
    CORE_CRASH: (Path(rewind_node.__file__).parent, Path(rewind_cluster.__file__).parent),
    CLIENT_CRASH: (Path(rewind.__file__).parent,),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not be. `operations` show it, where it is about any."""

    kind: str
    text: str
    operations: tuple[Operation, ...] = ()


def of_violation(violation: Violation) -> Finding:
    """Return what the checker found as a finding."""
    return Finding(str(violation.kind), violation.text, violation.operations)


def of_exception(error: Exception) -> Finding:
    """Return a finding for an exception that nothing caught. It is the shipped code's if any of that was running."""
    frames = [Path(frame.filename).parent for frame in traceback.extract_tb(error.__traceback__)]
    text = "".join(traceback.format_exception(error))
    for folder in reversed(frames):
        for kind, folders in _OWNERS.items():
            if folder in folders:
                return Finding(kind, text)
    return Finding(SIMULATOR_CRASH, text)
