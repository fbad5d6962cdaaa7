"""The times and limits of consensus, each with the reason for its size."""

from dataclasses import dataclass

from rewind_cluster.errors import InvalidArgumentError

US_PER_MS = 1000


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """How patient a replica is, and how much it sends ahead. No safety depends on any of it."""

    election_timeout_ms: int = 1000  # waits are drawn from one to two of it; over any usual pause of a disk or process
    heartbeat_ms: int = 200  # five of them must be lost before a leader is doubted
    drop_delay_ms: int = 30  # up to this after the drop of its connection to the leader, so that few candidates meet
    drop_repeat_ms: int = 50  # then it asks again this often: two tries fit into the tenth of a second for a failover
    append_bytes_max: int = 1024 * 1024  # of entries per message: about a millisecond to check and to write
    probe_bytes_max: int = 64 * 1024  # of entries sent to a follower whose log is not known: they may well be refused
    inflight_appends_max: int = 64  # unanswered messages per follower: more than a turn of the loop ever sends
    inflight_bytes_max: int = 4 * 1024 * 1024  # covers 20 ms of a 1.6 Gbit/s link, and is what the log keeps in memory

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_ms < self.election_timeout_ms:
            raise InvalidArgumentError(
                f"an election timeout of {self.election_timeout_ms} ms is not longer than "
                f"a heartbeat interval of {self.heartbeat_ms} ms"
            )
        if self.drop_delay_ms < 0 or self.drop_repeat_ms <= 0:
            raise InvalidArgumentError("the waits after a dropped connection must not be negative, the repeat not 0")
        if min(self.append_bytes_max, self.probe_bytes_max, self.inflight_appends_max, self.inflight_bytes_max) <= 0:
            raise InvalidArgumentError("the limits of appends must be positive")
