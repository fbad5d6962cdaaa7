"""What a scenario may look at: one answer in words per question, and a table of everything at once."""

from collections.abc import Callable, Iterable

from membership_steps import learners
from scenarios.replicas import Group, Replica
from scenarios.wording import name_of, names_of

from rewind_cluster.raft import Role

COLUMNS = ("role", "term", "vote", "leader", "commit", "durable", "log")


def _log(replica: Replica) -> str:
    log = replica.raft.log
    return " ".join(str(log.term_at(index)) for index in range(1, log.last_index + 1)) or "empty"


def _role(replica: Replica) -> str:
    return replica.raft.role.value if replica.up else "down"


def _up(group: Group) -> Iterable[Replica]:
    return (replica for replica in group.replicas.values() if replica.up)


def _distinct(values: Iterable[object]) -> str:
    return " ".join(map(str, sorted(set(values), key=str)))


REPLICA_FACTS: dict[str, Callable[[Replica], str]] = {
    "role": _role,
    "term": lambda replica: str(replica.raft.term),
    "vote": lambda replica: name_of(replica.raft.vote),
    "leader": lambda replica: name_of(replica.raft.leader),
    "commit": lambda replica: str(replica.raft.commit),
    "durable": lambda replica: str(replica.raft.log.persisted),
    "log": _log,
    "voters": lambda replica: names_of(replica.raft.membership.voters),
    "learners": lambda replica: names_of(learners(replica.raft.membership)),
    "served": lambda replica: str(replica.served),
    "transferring": lambda replica: "yes" if replica.raft.transferring else "no",
    "quarantined": lambda replica: "yes" if replica.raft.quarantined else "no",
    "quorum-full": lambda replica: "yes" if replica.raft.quorum_full() else "no",
}

ALL_FACTS: dict[str, Callable[[Group], str]] = {
    "leaders": lambda group: names_of(each.number for each in _up(group) if each.raft.role is Role.LEADER),
    "terms": lambda group: _distinct(each.raft.term for each in _up(group)),
    "commits": lambda group: _distinct(each.raft.commit for each in _up(group)),
    "logs": lambda group: "equal" if len({each.raft.log.last_digest for each in _up(group)}) == 1 else "different",
}


def follower_words(leader: Replica, follower: Replica) -> str:
    """Return what a leader knows of a follower."""
    progress = leader.raft.progress(follower.number)
    if progress is None:
        return "unknown"
    full = " full" if progress.full else ""
    return f"{progress.state.value} match {progress.match} next {progress.next}{full}"


def table(group: Group) -> list[str]:
    """Return all replicas' states, and what leaders know of the others."""
    rows: list[tuple[str, ...]] = [("", *COLUMNS)]
    for replica in group.replicas.values():
        facts = (
            REPLICA_FACTS[name](replica) for name in ("role", "term", "vote", "leader", "commit", "durable", "log")
        )
        rows.append((name_of(replica.number), *facts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
