"""The workload: lets the applications of a run do its operations when they are due, and keeps what they recorded."""

from collections.abc import Iterator
from itertools import count

from histories.history import History

from rewind_node.data_partition import DataPartition
from simulator.applications import Application
from simulator.client_machine import ClientMachine
from simulator.group_operations import has_groups
from simulator.leaderships import Leaderships
from simulator.operations import streams_of
from simulator.overhearing import Eavesdropper
from simulator.pinning import PinnedReader
from simulator.plan import Operation, Plan
from simulator.progress import Progress
from simulator.recording import Recorder, Records
from simulator.world import World

# Numbers of the operations that are no part of a plan.
PROBES_FROM = 1_000_000
AUDITS_FROM = 2_000_000
AUDIT_TIMEOUT_MS = 4_000


class Workload:
    """All clients of one run."""

    def __init__(self, world: World, plan: Plan, leaderships: Leaderships) -> None:
        self.records = Records()
        self._world = world
        self._partitions = plan.shape.partitions
        self._operations = plan.operations
        everybody = Progress()
        self._audits = 0
        self._applications = []
        for number, machine in enumerate(world.clients):
            recorder = Recorder(world, number, self.records)
            pinned = PinnedReader(world, machine, recorder, leaderships)
            if has_groups(plan.operations):
                self._overhear(machine, recorder)
            self._applications.append(Application(world, machine, recorder, pinned, everybody, plan.seed))

    def _overhear(self, machine: ClientMachine, recorder: Recorder) -> None:
        eavesdropper = Eavesdropper(self.records.said, lambda: self._world.now_us, lambda: recorder.client)
        machine.overhear = eavesdropper.overhear

    def begin(self) -> None:
        """Let the applications open the cluster, and do their operations at their times."""
        for application in self._applications:
            application.open()
        for operation in self._operations:
            self._world.at(operation.at_us, self._do, operation)

    def _do(self, operation: Operation) -> None:
        self._applications[operation.client].do(operation)

    def resume(self) -> None:
        """Let paused clients go on."""
        for application in self._applications:
            application.resume()

    @property
    def busy(self) -> bool:
        """Whether an operation is under way or waits for its client."""
        return any(application.busy for application in self._applications)

    def left(self) -> list[str]:
        """Return what is under way, for people."""
        return [text for application in self._applications for text in application.left()]

    def probe(self, timeout_us: int) -> set[int]:
        """Append to a stream of each partition that no one has written to; return the numbers of these operations."""
        application = self._applications[0]
        numbers: set[int] = set()
        if not application.ready:
            return numbers
        for partition in range(1, self._partitions + 1):
            names = (f"probe-{number}" for number in count())
            stream = next(name for name in names if application.partition_of(name) == partition)
            number = PROBES_FROM + partition
            arguments = {"context": "default", "parts": [[stream, 1, "none"]], "again": 0, "padding_bytes": 0}
            timeout = {"timeout_ms": timeout_us // 1000}
            application.do(Operation(number, self._world.now_us, 0, "append", arguments | timeout))
            numbers.add(number)
        return numbers

    def hurry_consumers(self) -> None:
        """Let all subscriptions and members that have not ended go on from now on, and take what comes at once."""
        for application in self._applications:
            for consumer in application.consumers:
                consumer.hurry()

    def consumers_behind(self) -> Iterator[str]:
        """Yield the subscriptions that have not come to where their partitions' leaders are, for people."""
        subscribers = [each for application in self._applications for each in application.subscribers if each.wanted]
        for subscriber in subscribers:
            life = subscriber.life
            if life is None:
                yield f"a subscription from {subscriber.kept} does not begin"
                continue
            if not life.caught_up:
                yield f"{life.what} does not say that it has caught up"
            for partition, position in life.positions.items():
                head = self._head(partition, life.context)
                if head is None or position < head:
                    yield f"{life.what} is at position {position} of {head} of partition {partition}"

    def _head(self, partition: int, context: int) -> int | None:
        """Return the newest position of a context at a partition's leader, or None if there is none."""
        replica = self._leading(partition)
        return None if replica is None else replica.index.position(context)

    def _leading(self, partition: int) -> DataPartition | None:
        host = self._world.leader(partition)
        replica = self._world.replica(host, partition) if host is not None else None
        return replica if isinstance(replica, DataPartition) else None

    def groups_behind(self) -> Iterator[str]:
        """Yield where a group that has members has not dealt with everything, or nobody holds a partition."""
        workers = [each for application in self._applications for each in application.workers if each.wanted]
        for worker in workers:
            if worker.life is None:
                yield f"{worker.what} does not become a member of group {worker.group[1]}"
        for context, group in sorted({worker.group for worker in workers}):
            calls = next(each for each in self._applications if each.ready).calls[context]
            for partition in calls.partitions:
                replica = self._leading(partition)
                state = None if replica is None else replica.index.groups.find(calls.origin.context, group)
                where = f"partition {partition} of group {group}"
                if replica is None or state is None:
                    yield f"{where} has no state at a leader"
                elif not state.owner:
                    yield f"{where} has no owner"
                elif state.checkpoint < (head := replica.index.position(calls.origin.context)):
                    yield f"{where}: its checkpoint is {state.checkpoint} of {head}"
                elif state.replays:
                    yield f"{where}: positions {state.replays} are not replayed"

    def members_leaving(self) -> Iterator[str]:
        """Yield the members that have not come to leave, for people."""
        for application in self._applications:
            yield from (f"{worker.what} does not leave its group" for worker in application.workers if worker.leaving)

    def end_consumers(self) -> None:
        """Close all subscriptions, and let all members leave, for good."""
        for application in self._applications:
            for consumer in application.consumers:
                consumer.finish()

    def audit(self) -> None:
        """Ask every replica in service for every stream."""
        application = self._applications[0]
        streams = sorted({(each.arguments["context"], name) for each in self._operations for name in streams_of(each)})
        if not application.ready:
            return
        for host in self._world.hosts:
            for context, stream in streams:
                if self._world.replica(host, application.calls[context].partition_of(stream)) is not None:
                    arguments = {"context": context, "stream": stream, "what": "read", "consistency": "any"}
                    arguments |= {"node": host.number, "timeout_ms": AUDIT_TIMEOUT_MS}
                    self._audits += 1
                    number = AUDITS_FROM + self._audits
                    application.do(Operation(number, self._world.now_us, 0, "pinned", arguments))

    @property
    def history(self) -> History:
        """Everything that was recorded."""
        records = self.records
        return History(records.appends, records.reads, records.scans, records.members, records.said)
