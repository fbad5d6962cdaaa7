"""What operators do about consumer groups: replays, discards and resets, through a session as their command does it."""

from typing import TYPE_CHECKING

from rewind.group_operations import replay_parked, reset_group
from rewind.requests import Call
from simulator.plan import Operation

if TYPE_CHECKING:
    from simulator.applications import Application


def operate(application: "Application", operation: Operation) -> None:
    """Do an operation in all partitions of its context; no answer is waited for."""
    arguments = operation.arguments
    calls, name, timeout_us = (
        application.calls[arguments["context"]],
        arguments["group"],
        arguments["timeout_ms"] * 1000,
    )
    origin, what = calls.origin, arguments["what"]

    def note(call: Call) -> None:
        application.world.note("operated", operation=operation.number, what=what, error=str(call.error))

    for partition in calls.partitions:
        if what == "reset":
            known = application.everybody.positions.get((origin.context, partition), 0)
            checkpoint = known * arguments["share"] // 100
            request = reset_group(origin, partition, name, timeout_us, checkpoint=checkpoint)
        else:
            discard = what == "discard"
            request = replay_parked(origin, partition, name, timeout_us, positions=None, discard=discard)
        application.start(request, note)
