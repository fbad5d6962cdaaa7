"""The interpreter of scenarios: one method per command, each described in the README beside it.

A command tells its outcome line by line. `expect` tells nothing and raises `ExpectationError` where it is wrong, so
that the point of a scenario is asserted and not only recorded.
"""

from membership_steps import demote, promote, remove
from scenarios.facts import ALL_FACTS, REPLICA_FACTS, follower_words, table
from scenarios.replicas import Group, Replica
from scenarios.selection import ScriptError, links_of, number_of, select, split_words
from scenarios.wording import envelope_line, name_of

from rewind_cluster.errors import ClusterError
from rewind_cluster.membership import Member, Membership
from rewind_cluster.outbox import HardState
from rewind_cluster.raft import Raft, RaftOptions, Role
from rewind_cluster.raft_messages import Envelope
from rewind_cluster.raft_options import US_PER_MS

STEPS = {
    "add": lambda membership, replica: membership.add_learner(replica, f"node-{name_of(replica)}"),
    "promote": promote,
    "demote": demote,
    "remove": remove,
}


class ExpectationError(Exception):
    """Something is not as the scenario says it must be."""


class Script:
    """One run of a scenario. `run` executes a command and returns its outcome."""

    def __init__(self) -> None:
        self.group = Group(Membership({}), RaftOptions(), self)
        self._lines: list[str] = []
        self._quiet = False  # nothing is told of messages and writes
        self._refused = False
        self._sent: list[Envelope] = []

    def run(self, command: str) -> list[str]:
        """Execute one command and return what happened."""
        self._lines = []
        words = command.split()
        self._quiet = words[0] == "quietly"
        name, *arguments = words[1:] if self._quiet else words
        action = getattr(self, f"do_{name.replace('-', '_')}", None)
        if action is None:
            raise ScriptError(f"there is no command {name!r}")
        self._refused = self._refused and name == "expect"
        try:
            action(*arguments)
        except ClusterError as error:
            self._refused = True
            self._lines.append(f"refused: {error}")
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ScriptError(f"{command!r} cannot be executed: {error!r}") from error
        for replica in self.group.replicas.values():
            replica.turn()
        return self._lines

    # Who takes part.

    def do_group(self, *words: str) -> None:
        names, options = split_words(words)
        voters = names.index("learners") if "learners" in names else len(names)
        members = {number_of(name): Member(f"node-{name}", voter=True) for name in names[:voters]}
        members |= {number_of(name): Member(f"node-{name}", voter=False) for name in names[voters + 1 :]}
        limits = RaftOptions(**{name: int(value) for name, value in options.items()})
        self.group = Group(Membership(members), limits, self)

    def do_log(self, name: str, *words: str) -> None:
        terms, state = split_words(words)
        replica = self._replica(name)
        self.group.write_log(replica, [int(term) for term in terms])
        replica.disk.state = HardState(int(state.get("term") or terms[-1]), number_of(state.get("vote", "n0")))
        replica.disk.applied = int(state.get("commit", "0"))
        replica.load(self.group.options, self.group.now_us)

    def do_crash(self, name: str, how: str = "noticed") -> None:
        self._replica(name).crash()
        for other in self._others(name) if how == "noticed" else ():
            self.do_disconnected(name_of(other.number), name)

    def do_restart(self, name: str) -> None:
        self._replica(name).load(self.group.options, self.group.now_us)
        for other in self._others(name):
            self.do_connected(name_of(other.number), name)

    def do_lose(self, name: str, first: str) -> None:
        disk = self._replica(name).disk
        del disk.log[int(first) - 1 :]
        disk.applied = min(disk.applied, len(disk.log))

    # What a replica is told to do.

    def do_campaign(self, name: str) -> None:
        self._raft(name).campaign(self.group.now_us)

    def do_elect(self, name: str) -> None:
        self._quiet = True
        self.do_campaign(name)
        self._replica(name).turn()
        self.group.settle()
        self.group.tick(self._replica(name))
        self.group.settle()
        raft = self._raft(name)
        if raft.role is not Role.LEADER:
            raise ScriptError(f"{name} is not elected")
        self._lines.clear()
        self._lines.append(f"{name} leads in term {raft.term}, commit {raft.commit}")

    def do_propose(self, name: str, *bodies: str) -> None:
        raft = self._raft(name)
        for body in bodies:
            timestamp = raft.log.last_timestamp + 1
            raft.propose(context=1, first_position=1, event_count=1, timestamp=timestamp, body=body.encode())

    def do_change(self, name: str, *steps: str) -> None:
        raft = self._raft(name)
        change = raft.membership
        for step, target in zip(steps[::2], steps[1::2], strict=True):
            change = STEPS[step](change, number_of(target))
        raft.propose_membership(change)
        for number in change.members:
            if number not in self.group.replicas:
                self.group.add(number, Membership({}))

    def do_read(self, name: str) -> None:
        self._lines.append(f"{name} waits for round {self._raft(name).read()}")

    def do_transfer(self, name: str, to: str | None = None) -> None:
        begun = self._raft(name).transfer(number_of(to) if to else None, self.group.now_us)
        self._refused = not begun
        self._lines.append(
            f"{name} begins to hand over" if begun else f"refused: {name} cannot hand over to {to or 'anybody'}"
        )

    def do_quarantine(self, name: str) -> None:
        self._raft(name).quarantine()

    def do_release(self, name: str) -> None:
        self._raft(name).release()

    # Disks.

    def do_persist(self, name: str, writes: str = "all") -> None:
        replica = self._replica(name)
        for _ in range(len(replica.owed) if writes == "all" else int(writes)):
            replica.persist()

    def do_disk(self, name: str, state: str) -> None:
        self._replica(name).stalled = {"stalls": True, "runs": False}[state]

    def do_storage(self, name: str, state: str) -> None:
        self._raft(name).storage_full = {"full": True, "free": False}[state]

    # The network.

    def do_deliver(self, *words: str) -> None:
        self.group.deliver(select(self.group.network, words))

    def do_deliver_to(self, name: str, *words: str) -> None:
        self.group.deliver(select(self.group.network, words), number_of(name))

    def do_drop(self, *words: str) -> None:
        for envelope in select(self.group.network, words):
            self.group.network.remove(envelope)
            self.traffic(f"lost  {envelope_line(envelope)}")

    def do_duplicate(self, *words: str) -> None:
        self.group.network.extend(select(self.group.network, words))

    def do_delay(self, *words: str) -> None:
        for envelope in select(self.group.network, words):
            self.group.network.remove(envelope)
            self.group.delayed.append(envelope)

    def do_arrive(self, *words: str) -> None:
        for envelope in select(self.group.delayed, words):
            self.group.delayed.remove(envelope)
            self.group.network.append(envelope)
            self.group.deliver([envelope])

    def do_settle(self, *words: str) -> None:
        self.group.settle(lambda envelopes: select(envelopes, words))

    def do_cut(self, *routes: str) -> None:
        for sender, to in links_of(routes):
            if sender is None or to is None:
                raise ScriptError("a link has two ends")
            self.group.cuts.add((sender, to))

    def do_isolate(self, name: str) -> None:
        self.do_cut(*(f"{name}<->{name_of(other.number)}" for other in self._others(name)))

    def do_heal(self) -> None:
        self.group.cuts.clear()

    def do_disconnected(self, name: str, other: str) -> None:
        self._raft(name).peer_dropped(number_of(other), self.group.now_us)

    def do_connected(self, name: str, other: str) -> None:
        self._raft(name).peer_connected(number_of(other), self.group.now_us)

    # Time.

    def do_tick(self, name: str) -> None:
        replica = self._replica(name)
        self.group.now_us = max(self.group.now_us, self._raft(name).deadline_us)
        self.group.tick(replica)

    def do_wait(self, amount: str, unit: str) -> None:
        if unit != "ms":
            raise ValueError("a time is in ms")
        end = self.group.now_us + int(amount) * US_PER_MS
        self.group.settle()
        while True:
            up = [replica for replica in self.group.replicas.values() if replica.up]
            self.group.now_us = max(self.group.now_us, min([end, *(replica.raft.deadline_us for replica in up)]))
            told, self._lines = self._lines, []
            for replica in up:
                self.group.tick(replica)
            self.group.settle()
            heading = [f"at {self.group.now_us // US_PER_MS} ms:"] if self._lines else []
            self._lines = [*told, *heading, *self._lines]
            if self.group.now_us >= end:
                return

    # What there is to see.

    def do_show(self) -> None:
        self._lines.extend(table(self.group))

    def do_count(self) -> None:
        self._sent.clear()

    def do_expect(self, *words: str) -> None:
        *question, expected = words
        if words == ("refused",):
            actual, expected = str(self._refused), str(True)
        elif words[0] in {"sent", "flying"}:
            messages = self._sent if words[0] == "sent" else self.group.network
            actual = str(len(select(messages, question[1:])))
        elif words[0] == "progress":
            expected = " ".join(words[3:])
            actual = follower_words(self._replica(words[1]), self._replica(words[2]))
        elif words[0] in ALL_FACTS:
            actual, expected = ALL_FACTS[words[0]](self.group), " ".join(words[1:])
        else:
            actual, expected = REPLICA_FACTS[words[1]](self._replica(words[0])), " ".join(words[2:])
        if actual != expected:
            raise ExpectationError(f"expect {' '.join(words)}: it is {actual}")

    def _replica(self, name: str) -> Replica:
        return self.group.replicas[number_of(name)]

    def _raft(self, name: str) -> Raft:
        if not self._replica(name).up:
            raise ScriptError(f"{name} is down")
        return self._replica(name).raft

    def _others(self, name: str) -> list[Replica]:
        return [other for other in self.group.replicas.values() if other.up and other.number != number_of(name)]

    # What the replicas tell.

    def changes(self, line: str) -> None:
        """Hear that somebody's state has changed."""
        self._lines.append(line)

    def traffic(self, line: str) -> None:
        """Hear of a write, or of a message that was lost."""
        if not self._quiet:
            self._lines.append(line)

    def sends(self, envelope: Envelope) -> None:
        """Hear that a message has left."""
        self._sent.append(envelope)
        self.traffic(envelope_line(envelope))
