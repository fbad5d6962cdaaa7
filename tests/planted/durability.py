"""Bugs of what must be durable before it is relied upon: entries, votes, terms, commits that fail."""

from planted.plant import Change, Plant
from rewind_cluster.outbox import Output
from rewind_node.loop import turn
from rewind_node.replica import Replica

PLANTS = (
    Plant(
        "acknowledge before fsync",
        "what waits for the disk is sent before the commit",
        "a majority that crashes at once has lost what was acknowledged",
        1,
        ("crashes", "disks"),
        (
            Change(
                turn,
                """
                + node.committed()
                + _send_peers(node, transport)
                + _send_clients(node, transport)
                  if must_commit:
                """,
            ),
        ),
    ),
    Plant(
        "vote not persisted",
        "the vote is left out of the stored state",
        "a voter that restarts votes twice in a term, and two leaders of it commit different entries",
        9,
        ("elections",),
        (
            Change(
                Replica.put_state,
                """
                - vote=raft.vote,
                + vote=0,
                """,
            ),
        ),
    ),
    Plant(
        "vote sent before it is durable",
        "a new term or vote does not call for a commit",
        "as if it were not persisted, for as long as no other commit comes",
        9,
        ("elections",),
        (
            Change(
                Output.writes,
                """
                - return bool(
                + return self.hard_state is None and bool(
                """,
            ),
        ),
    ),
    Plant(
        "term not persisted",
        "after a restart the term is that of the log's last entry",
        "a replica follows a leader that it had promised to follow no more, and votes again in a term it has voted in",
        9,
        ("elections",),
        (
            Change(
                Replica.put_state,
                """
                - term=raft.term,
                - vote=raft.vote,
                + term=raft.log.last_term,
                + vote=0,
                """,
            ),
        ),
    ),
    Plant(
        "failed commit treated as success",
        "a commit that the disk refused is taken for one that it made",
        "what was acknowledged on it is not stored",
        1,
        ("disks",),
        (
            Change(
                turn,
                """
                - store.commit()
                + from rewind_node.storage_errors import StorageFailedError
                + try:
                +     store.commit()
                + except StorageFailedError:
                +     pass
                """,
            ),
        ),
    ),
)
