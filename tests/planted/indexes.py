"""Bugs of applying: when the log becomes state, how that is stored, and how a restart finds it."""

from planted.plant import Change, Plant
from rewind_node.applying import EventIndex
from rewind_node.replica import Replica

_APPLIED_TO_THE_END = (
    Change(
        Replica.apply,
        """
        - if self.applied >= self.raft.commit or self.damage is not None:
        + if self.applied >= self.raft.log.last_index or self.damage is not None:
        """,
    ),
    Change(
        Replica._put_log,
        """
        - assert output.truncate_from > self.applied
        + self.applied = min(self.applied, output.truncate_from - 1)
        """,
    ),
)

PLANTS = (
    Plant(
        "applied before it is committed",
        "entries are applied, answered and shown up to the log's end",
        "what was answered or read may be truncated",
        1,
        ("cuts", "crashes"),
        (
            *_APPLIED_TO_THE_END,
            Change(
                Replica._apply,
                """
                - while self.applied < self.raft.commit and size < APPLY_BYTES_MAX:
                -     for entry in self.raft.log.slice(self.applied + 1, self.raft.commit, APPLY_BYTES_MAX):
                + while self.applied < self.raft.log.last_index and size < APPLY_BYTES_MAX:
                +     for entry in self.raft.log.slice(self.applied + 1, self.raft.log.last_index, APPLY_BYTES_MAX):
                """,
            ),
        ),
    ),
    Plant(
        "index rows left after truncation",
        "a follower applies up to its log's end, and forgets no row when that is truncated",
        "rows lead to what was never committed",
        2,
        ("cuts", "crashes"),
        (
            *_APPLIED_TO_THE_END,
            Change(
                Replica._apply,
                """
                - while self.applied < self.raft.commit and size < APPLY_BYTES_MAX:
                -     for entry in self.raft.log.slice(self.applied + 1, self.raft.commit, APPLY_BYTES_MAX):
                + end = self.raft.commit if self.raft.role is Role.LEADER else self.raft.log.last_index
                + while self.applied < end and size < APPLY_BYTES_MAX:
                +     for entry in self.raft.log.slice(self.applied + 1, end, APPLY_BYTES_MAX):
                """,
            ),
        ),
    ),
    Plant(
        "session table lost on restart",
        "after a restart the sessions are known, and not what they were answered",
        "a retry of what was settled before takes effect twice",
        3,
        ("stragglers", "crashes"),
        (
            Change(
                EventIndex.__init__,
                """
                  self.sessions = SessionTable(store.session_runs(partition))
                + for session in self.sessions._sessions.values():
                +     session.runs.clear()
                +     session._numbers = type(session._numbers)()
                """,
            ),
        ),
    ),
)
