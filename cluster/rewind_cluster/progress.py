"""A leader's view of one replica: what it has, what it was sent, and whether it answers.

The invariant is `0 <= match < next`. `match` only grows: a replica never loses what it has acknowledged. The states
are those of etcd's raft: after an election, a refusal or a lost connection a follower is probed, one message at a
time; once it has acknowledged where the logs meet, it is sent a pipeline of messages up to a window.

A message can be lost with nothing sent after it. So a follower that left something unanswered over a whole
heartbeat interval is held to be `stalled`, and its next answered heartbeat has it asked again.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.raft_options import RaftOptions

NEVER_US = -1


class ProgressState(Enum):
    """How entries are sent to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"


@dataclass(slots=True)
class Progress:
    """One replica as its leader sees it."""

    replica: ReplicaId
    voter: bool
    next: int  # the index to be sent next
    match: int = 0  # the highest index known to be durable there and equal to ours
    state: ProgressState = ProgressState.PROBE
    paused: bool = False  # a probe is unanswered, or the connection is down: nothing is sent until it is resumed
    full: bool = False  # its storage takes no events
    recently_active: bool = False  # heard from within an election timeout
    heard_us: int = NEVER_US
    round: int = 0  # the highest round of heartbeats it has answered
    commit_sent: int = 0  # the highest commit index it was told
    nudged: bool = False  # owed an empty message that shows whether what was sent has arrived
    greeted: bool = False  # owed a heartbeat at once, because its connection has just come up
    stalled: bool = False
    waiting: bool = False  # something was unanswered at the last tick
    answered: bool = False  # since the last tick
    inflight: deque[tuple[int, int]] = field(default_factory=deque)  # last index and bytes of each unanswered message
    inflight_bytes: int = 0

    def heard(self, now_us: int) -> None:
        """Learn that the replica sent us something in our term."""
        self.heard_us = now_us
        self.recently_active = True

    def window_open(self, options: RaftOptions) -> bool:
        """Return whether another message may be sent ahead."""
        return len(self.inflight) < options.inflight_appends_max and self.inflight_bytes < options.inflight_bytes_max

    def sent(self, last: int, size: int) -> None:
        """Learn that entries up to `last`, `size` bytes of them, were sent."""
        if self.state is ProgressState.PROBE:
            self.paused = True
            return
        self.next = last + 1
        self.inflight.append((last, size))
        self.inflight_bytes += size

    def accepted(self, index: int, *, full: bool) -> None:
        """Learn that everything up to `index` matches and is durable there, and whether it takes more."""
        self.answered = True
        if index < self.match:
            return  # An old answer, overtaken by a later one.
        self.match = index
        self.next = max(self.next, index + 1)
        if full:
            self.full = True
            self.probe()
            self.paused = True
            return
        self.full = False
        if self.state is ProgressState.PROBE:
            self.state = ProgressState.REPLICATE
            self.paused = False
            self.next = index + 1
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]

    def refused(self, prev_index: int, guess: int) -> None:
        """Learn that the entry at `prev_index` did not match; the logs may meet at `guess`."""
        self.answered = True
        if prev_index <= self.match:
            return  # An old refusal: what it says has been made good since.
        if self.state is ProgressState.REPLICATE:
            self.probe()
            return
        if prev_index != self.next - 1:
            return  # The answer to an older probe, or to a pipeline that is given up.
        self.next = max(self.match + 1, min(prev_index, guess + 1))
        self.paused = False

    def probe(self) -> None:
        """Give up what was sent ahead and find out where the logs meet."""
        self.state = ProgressState.PROBE
        self.next = self.match + 1
        self.paused = False
        self.nudged = False
        self.inflight.clear()
        self.inflight_bytes = 0

    def tick(self) -> None:
        """Judge, once per heartbeat interval, whether something sent may have been lost."""
        waiting = self.paused or bool(self.inflight)
        self.stalled = waiting and self.waiting and not self.answered
        self.waiting = waiting
        self.answered = False

    def resume(self) -> None:
        """Ask a stalled replica again: it is there, for it has just answered a heartbeat."""
        if not self.stalled:
            return
        self.stalled = False
        if self.state is ProgressState.PROBE:
            self.paused = False
        else:
            self.nudged = True
