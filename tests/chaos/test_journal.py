"""Journals: what a client process has written down is known, whenever it was killed."""

import json
from dataclasses import replace
from pathlib import Path

from histories.group_history import ACK, GroupSaid, Handed
from histories.history import Mark, Outcome, ScannedEvent

from chaos.journal import Journal, Told, read_journals
from rewind_cluster.group_records import Claim

PARTS = [["order-1", 0, [["ab" * 16, "digest"]]]]
EVENT = ("order-1", 1, 7, 70, "ab" * 16, "digest")


def read(path: Path) -> Told:
    return read_journals([path])


def test_an_append_without_an_end_has_an_unknown_outcome(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("append", 5, 1, 1, 2, 100, PARTS)
    journal.write("append", 5, 2, 1, 2, 110, PARTS)
    journal.write("appended", 5, 2, 120, "ok", [[1, 7, 70]], None)

    first, second = read(tmp_path / "j").history.appends

    assert (first.outcome, first.ended_us) == (Outcome.UNKNOWN, None)
    assert (second.outcome, second.ended_us, second.places[0].position) == (Outcome.OK, 120, 7)


def test_a_line_that_was_cut_by_the_end_of_its_process_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("append", 5, 1, 1, 2, 100, PARTS)
    with (tmp_path / "j").open("ab") as file:
        file.write(json.dumps(["appended", 5, 1, 120, "ok", [[1, 7, 70]], None])[:-9].encode())

    (append,) = read(tmp_path / "j").history.appends

    assert append.outcome is Outcome.UNKNOWN


def test_a_subscription_that_was_killed_was_given_what_it_wrote_down(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("scan", 5, 1, 1, 100, {1: 3, 2: 0}, False, ["Happened"], "order-")
    journal.write("event", 5, 1, 1, 150, 7, *EVENT)
    journal.write("mark", 5, 1, 2, 160, 4)

    first, second = read(tmp_path / "j").history.scans

    assert (first.partition, first.after, first.events) == (1, 3, (ScannedEvent(*EVENT),))
    assert first.marks == (Mark(150, 1, 7),)
    assert (second.partition, second.after, second.events, second.marks) == (2, 0, (), (Mark(160, 0, 4),))
    assert (first.types, first.prefix, first.newest) == (("Happened",), "order-", None)


def test_where_a_subscription_begins_with_now_is_a_position_that_it_was_told(tmp_path: Path) -> None:
    Journal(tmp_path / "j").write("scan", 5, 1, 1, 100, {1: 3}, True, None, "")

    (scan,) = read(tmp_path / "j").history.scans

    assert scan.newest == scan.after == 3


def test_a_verdict_counts_unless_it_was_in_vain(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("member", 5, 1, 1, 100, "mailer", "aa" * 16, {1: 0}, 3, None, "")
    for position in (7, 8, 9):
        journal.write("handed", 5, 1, 1, 4, position, "ab" * 16, "digest", 1, False, 110)
    journal.write("verdict", 5, 1, 1, 0, ACK, 120)
    journal.write("verdict", 5, 1, 1, 1, ACK, 130)
    journal.write("in vain", 5, 1, 1, 1)

    (member,) = read(tmp_path / "j").history.members

    assert member.handed == (
        Handed(4, 7, "ab" * 16, "digest", 1, False, 110, ACK, 120, counts=True),
        Handed(4, 8, "ab" * 16, "digest", 1, False, 110, ACK, 130, counts=False),
        Handed(4, 9, "ab" * 16, "digest", 1, False, 110),
    )


def test_what_was_said_to_a_leader_is_known_with_its_answer_or_without(tmp_path: Path) -> None:
    claim = Claim(1, "mailer", b"m" * 16, 0, 3, 0)
    said = GroupSaid(5, 0, 1, 2, 100, None, claim)
    journal = Journal(tmp_path / "j")
    journal.said(5, 0, said)
    journal.said(5, 1, said)
    journal.answered(5, 1, GroupSaid(5, 1, 1, 2, 100, 140, claim, taken=True, epoch=9, attempts=((7, 1),)))

    first, second = read(tmp_path / "j").history.said

    assert (first.said, first.ended_us, first.taken) == (claim, None, False)
    assert (second.said, second.ended_us, second.epoch, second.attempts) == (claim, 140, 9, ((7, 1),))


def test_a_refusal_of_what_was_said_to_a_leader_is_known(tmp_path: Path) -> None:
    said = GroupSaid(5, 0, 1, 2, 100, None, Claim(1, "mailer", b"m" * 16, 0, 3, 0))
    journal = Journal(tmp_path / "j")
    journal.said(5, 0, said)
    journal.answered(5, 0, replace(said, ended_us=140, refused=True))

    (read_back,) = read(tmp_path / "j").history.said

    assert (read_back.ended_us, read_back.taken, read_back.refused) == (140, False, True)
