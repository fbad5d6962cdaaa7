"""When a follower doubts its leader, and how soon it asks again.

A follower has a live leader if it heard from it within the minimum election timeout and its connection to it has
not dropped since; then it refuses votes, so that a replica that was cut off cannot depose a leader that the others
can hear (Ongaro's thesis, sections 6.2 and 9.6). Waits are drawn at random between one and two timeouts (Raft
paper, section 5.2).

A dropped connection is a much stronger sign than silence, so it puts the replica in haste: it asks after some
milliseconds, and again and again at short intervals, until a leader it is connected to is heard or the haste has
lasted long enough. Candidates in haste wait longer with every try, because votes wait for disks, which may be
slower than the interval.
"""

from collections.abc import Callable

from rewind_cluster.raft_options import US_PER_MS, RaftOptions

Pick = Callable[[int, int], int]

HASTE_TIMEOUTS = 2  # haste ends after this many election timeouts: by then it is no failover but a lost quorum


class ElectionTimer:
    """One replica's patience. `deadline_us` is when it is to campaign."""

    def __init__(self, options: RaftOptions, pick: Pick, now_us: int) -> None:
        self._minimum_us = options.election_timeout_ms * US_PER_MS
        self._delay_us = options.drop_delay_ms * US_PER_MS
        self._repeat_us = options.drop_repeat_ms * US_PER_MS
        self._pick = pick
        self._fresh_until_us = now_us  # what was heard last counts as a live leader up to here
        self._haste_until_us = 0
        self._tries = 0
        self._timeout_us = 0
        self.deadline_us = 0
        self.rearm(now_us)

    def rearm(self, now_us: int) -> None:
        """Wait for a newly drawn timeout from now on."""
        self._timeout_us = self._pick(self._minimum_us, 2 * self._minimum_us - 1)
        self.deadline_us = now_us + self._timeout_us

    def heard(self, now_us: int) -> None:
        """Learn that the leader, to which we are connected, is there."""
        self._fresh_until_us = now_us + self._minimum_us
        self._haste_until_us = 0
        self.deadline_us = now_us + self._timeout_us

    def leader_is_live(self, now_us: int) -> bool:
        """Return whether the leader was heard of late and its connection has not dropped since."""
        return now_us < self._fresh_until_us

    def leader_dropped(self, now_us: int) -> None:
        """Learn that our connection to the leader dropped: doubt it at once."""
        self._fresh_until_us = now_us
        self._haste_until_us = now_us + HASTE_TIMEOUTS * self._minimum_us
        self._tries = 0
        self.deadline_us = now_us + self._pick(0, self._delay_us)

    def asked(self, now_us: int) -> None:
        """Learn that we have begun a pre-vote: when to begin the next one."""
        if not self._hasty(now_us):
            self.rearm(now_us)
            return
        self.deadline_us = now_us + self._repeat_us + self._pick(0, self._repeat_us // 4)

    def voted(self, now_us: int) -> None:
        """Learn that we have given a vote, to another replica or to ourselves: when to give its election up."""
        if not self._hasty(now_us):
            self.rearm(now_us)
            return
        patience_us = min(self._repeat_us << self._tries, self._minimum_us)
        self._tries += 1
        self.deadline_us = now_us + patience_us + self._pick(0, patience_us)

    def _hasty(self, now_us: int) -> bool:
        return now_us < self._haste_until_us
