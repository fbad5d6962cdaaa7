"""Reads by hand, each pinned to one node.

Most are linearizable, and go to a node that may think it still leads though another does: a client library would turn
to the new leader, and the old one must not answer with what it still holds all the same. At the end of a run each
replica is asked for all that it holds, so that damage that nobody has met comes to light.
"""

from collections.abc import Sequence
from typing import Any

from rewind.calls import Calls
from rewind_cluster.client_messages import Failed
from simulator.client_machine import ClientMachine
from simulator.host import Host
from simulator.leaderships import Leaderships
from simulator.plan import Operation
from simulator.recording import Recorder
from simulator.world import World

ELECTION_US = 8_000  # a read amid an election is sent so long after its news at most


class PinnedReader:
    """One client machine's reads by hand. Each is on a connection of its own."""

    def __init__(self, world: World, machine: ClientMachine, recorder: Recorder, leaderships: Leaderships) -> None:
        self._world = world
        self._machine = machine
        self._recorder = recorder
        self._leaderships = leaderships
        self._requests = 0

    def read(self, operation: Operation, calls: Calls) -> None:
        """Ask for a stream or its version: the node that is named, else one that may wrongly think it leads."""
        wait_us = operation.arguments.get("wait_ms", 0) * 1000
        if wait_us:
            self._read_amid_election(operation, calls, wait_us)
        else:
            self._read(operation, calls)

    def _read_amid_election(self, operation: Operation, calls: Calls, wait_us: int) -> None:
        """Ask who campaigns next, or who comes to lead next; if nobody does, ask whom `choice` picks."""
        world, choice = self._world, operation.arguments["choice"]
        partition = calls.partition_of(operation.arguments["stream"])

        def heard(host: Host, event: str, facts: dict[str, Any]) -> None:
            led = event == "leader" and facts["leader"] == host.node_name
            if facts.get("partition") == partition and (led if choice % 2 else event == "campaigning"):
                world.at(world.now_us + choice % ELECTION_US, ask, host)

        def ask(host: Host | None) -> None:
            if heard in world.listeners:
                world.listeners.remove(heard)
                if self._machine.up and not self._machine.paused:
                    self._read(operation, calls, host)

        world.listeners.append(heard)
        world.at(world.now_us + wait_us, ask, None)

    def _read(self, operation: Operation, calls: Calls, host: Host | None = None) -> None:
        arguments = operation.arguments
        stream, consistency = arguments["stream"], arguments["consistency"]
        partition = calls.partition_of(stream)
        host = host or self._host(arguments, partition)
        timeout = arguments["timeout_ms"] / 1000
        read = calls.read(stream, 0, None, False, consistency, None, timeout)
        is_version = arguments["what"] == "version"
        request = calls.version(stream, consistency, None, timeout) if is_version else read.next_request()
        assert request is not None
        self._requests += 1
        tag = self._recorder.begin_read(operation, calls.origin.context, partition)

        def answered(message: Any, frames: Sequence[bytes]) -> None:
            if tag not in self._recorder.open:
                return  # the machine was restarted meanwhile
            if message is None or isinstance(message, Failed) or not request.answered(message, frames):
                self._recorder.fail_read(tag, None)
            elif request.error is not None:
                self._recorder.fail_read(tag, request.error)
            elif is_version:
                self._recorder.end_version(tag, request.result)
            else:
                events = read.take(request.result)
                more = read.next_request() is not None
                self._recorder.end_read(tag, events, request.result.position, more=more)

        message = request.make(self._requests, host.monotonic_us + arguments["timeout_ms"] * 1000)
        self._world.note("pinned", operation=operation.number, host=host.name, partition=partition)
        self._machine.ask_node(host, message, answered)

    def _host(self, arguments: dict[str, Any], partition: int) -> Host:
        number: int | None = arguments.get("node")
        if number is not None:
            return self._world.hosts[number]
        return self._leaderships.suspect(partition, arguments["choice"])
