"""Bugs of reads: what must be sure before one is answered."""

from planted.plant import Change, Plant
from rewind_cluster.leadership import Leadership
from rewind_cluster.read_rounds import ReadRounds
from rewind_cluster.records import unpack_record
from rewind_node.data_partition import DataPartition
from rewind_node.replica import Replica

PLANTS = (
    Plant(
        "read before the first commit",
        "a new leader serves reads before it has committed anything in its term",
        "it does not know yet how much of its log is committed, and misses what was acknowledged last",
        6,
        ("crashes", "cuts"),
        (
            Change(
                Leadership.confirmed_round,
                """
                - if not self.committed_in_term or not self.rounds.pending:
                + if not self.rounds.pending:
                """,
            ),
        ),
    ),
    Plant(
        "read without a round",
        "a leader serves reads without asking a majority whether it still leads",
        "a deposed one that does not know it answers with what was true before",
        6,
        ("cuts", "clocks"),
        (
            Change(
                Replica.add_read,
                """
                - read.round = self.raft.read()
                + read.index = self.raft.commit
                """,
            ),
        ),
    ),
    Plant(
        "read joins a round under way",
        "a read waits for the round that was begun before it arrived",
        "the majority may have had a newer leader since it answered",
        6,
        ("elections", "cuts"),
        (
            Change(
                ReadRounds.request,
                """
                - return self.current + 1
                + return self.current
                """,
            ),
        ),
    ),
    Plant(
        "deposed leader answers reads",
        "a leader that steps down serves the reads that waited there",
        "the next one may have committed more by then",
        6,
        ("elections", "cuts"),
        (
            Change(
                Replica._fail_fresh_reads,
                """
                - read.fail(why)
                + read.serve()
                """,
            ),
        ),
    ),
    Plant(
        "at_least ignored",
        "a read of any replica does not wait for the position it names",
        "a client does not see what it has written itself",
        6,
        ("cuts", "disks"),
        (
            Change(
                DataPartition.read,
                """
                - if at_least > self.index.position(message.context):
                + if message.fresh and at_least > self.index.position(message.context):
                ...
                - return fresh or at_least <= self.index.position(message.context)
                + return True
                """,
            ),
        ),
    ),
    Plant(
        "damaged record served",
        "a record's checksum is not looked at",
        "a flipped bit reaches the application",
        8,
        ("disks",),
        (
            Change(
                unpack_record,
                """
                - if crc32(events, crc32(packed)) != checksum:
                -     raise DamagedError("a record fails its checksum")
                """,
            ),
        ),
    ),
)
