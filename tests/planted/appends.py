"""Bugs of appends at their leader: judging, refusing, recognising what came before, timestamps."""

from planted.plant import Change, Plant
from rewind_cluster.elections import Elector
from rewind_cluster.raft_log import RaftLog
from rewind_node.data_partition import DataPartition
from rewind_node.leadership import Leadership
from rewind_node.overlay import Overlay
from rewind_node.reading import Reader

PLANTS = (
    Plant(
        "refusal judged on a tail that vanishes",
        "a wrong version is answered at once, not after commit and round",
        "the entry that decided it may never be committed, so that the refusal was never true",
        2,
        ("cuts", "crashes"),
        (
            Change(
                Leadership._take_single,
                """
                + from rewind_node.sessions import wrong_version
                + self._outbox.answer(burst, [sequence, *wrong_version(*judged.mismatch, logged=True)])
                + return
                  pieces = starts(single.counts, len(single.streams))
                """,
            ),
        ),
    ),
    Plant(
        "refused copy taken later",
        "a refusal is answered as final without being logged, though another copy is open",
        "that copy arrives when the version fits and takes effect after all",
        3,
        ("stragglers",),
        (
            Change(
                Leadership.judge_ready,
                """
                  refused = answer[1] == Code.WRONG_VERSION
                + if refused and judgement.open:
                +     answer[-1] = True
                +     judgement.open = False
                """,
            ),
        ),
    ),
    Plant(
        "duplicate check dropped after a transfer",
        "a leader knows again only the appends of its own term",
        "a retry of what was settled under the leader before takes effect twice",
        3,
        ("stragglers", "lossy"),
        (
            Change(
                Leadership._answered,
                """
                  answer = None if applied is None else applied.answer(sequence)
                + run = None if applied is None else applied._numbers.find(sequence)
                + if run is not None and self._raft.log.term_at(run.index) != self.term:
                +     answer = None
                """,
            ),
        ),
    ),
    Plant(
        "epoch rule dropped",
        "after a refusal the rest of the same burst is judged all the same",
        "what was pipelined in order is taken in another",
        3,
        ("stragglers", "lossy"),
        (
            Change(
                DataPartition.append,
                """
                - if client.refused.get(self.partition, -1) >= batch.epoch:
                + if False:
                """,
            ),
        ),
    ),
    Plant(
        "low-water mark ignored",
        "numbers below a session's low-water mark are judged as new",
        "a copy that comes late takes effect once more, its answer having been forgotten",
        3,
        ("stragglers",),
        (
            Change(
                Leadership._answered,
                """
                - if sequence < tail.low:
                + if False:
                """,
            ),
            Change(
                Leadership._take_whole,
                """
                - if first <= max(tail.last, self._judging.highest(burst.session)) or first < tail.low:
                + if first <= max(tail.last, self._judging.highest(burst.session)):
                """,
            ),
        ),
    ),
    Plant(
        "overlay not rebuilt",
        "a new leader judges against what is applied, not against the tail of its log",
        "versions and positions are given twice, and retries taken twice",
        2,
        ("crashes", "cuts"),
        (
            Change(
                DataPartition.lead,
                """
                - self.tail(),
                + (),
                """,
            ),
            Change(
                Overlay.applied,
                """
                - for pending, settled in zip(waiters.pending, applied.settled, strict=True):
                + for pending, settled in zip(waiters.pending, applied.settled):
                """,
            ),
        ),
    ),
    Plant(
        "batch split over two entries",
        "the parts of an append to several streams are logged as entries of their own",
        "others see half of it, and a crash may leave half of it",
        5,
        ("crashes", "calm"),
        (
            Change(
                Leadership._write,
                """
                + if run.append_count == 1 and 1 < len(run.streams) == len(set(run.streams)):
                +     from rewind_cluster.columns import pack_events
                +     events = unpack_columns(run.events, run.event_count)
                +     for number, (start, stop) in enumerate(starts(run.counts, len(run.streams))):
                +         several = stop - start > 1
                +         part = run._replace(
                +             streams=run.streams[number : number + 1],
                +             counts=[stop - start] if several else None,
                +             parts=[1] if several else None,
                +             events=pack_events(events.slice(start, stop)),
                +         )
                +         first_versions = judged.first_versions[number : number + 1]
                +         self._write(burst, part, context, tail, judged._replace(first_versions=first_versions))
                +         self._close(self._drafts.pop(context))
                +     return
                  draft = self._draft(context)
                  if draft.body_bytes and draft.body_bytes + len(run.events) > ENTRY_BODY_BYTES_TARGET:
                """,
            ),
        ),
    ),
    Plant(
        "retry recognised by version alone",
        "events that stand where an append expects them are taken for its own without comparing IDs",
        "whoever lost the race for a version is told that it has won",
        3,
        ("calm", "crashes"),
        (
            Change(
                Reader._place_of,
                """
                - if held != ids[(version - expected) * ID_BYTES : (version - expected + taken) * ID_BYTES]:
                + if False:
                """,
            ),
        ),
    ),
    Plant(
        "timestamps from the wall clock",
        "an entry's timestamp is the wall clock's, whatever came before",
        "a clock that goes back makes later events look older",
        2,
        ("clocks",),
        (
            Change(
                Leadership._propose,
                """
                - timestamp = max(self._clock.read(wall_us), self._raft.log.last_timestamp + 1)
                + timestamp = wall_us << 12
                """,
            ),
            Change(
                Elector._append,
                """
                - assert timestamp > self.log.last_timestamp
                """,
            ),
            Change(
                RaftLog.append,
                """
                - if entry.timestamp <= self.last_timestamp:
                + if False:
                """,
            ),
        ),
    ),
)
