"""The checker itself: each broken promise is found in a forged dump, and a sound one passes."""

import json
from typing import Any

from append_load import History
from stored_logs import StoredLogs


def entry(index: int, *appends: tuple[str, int, list[str]], term: int = 1, digest: str = "") -> dict[str, Any]:
    parts = [{"stream": stream, "version": version, "ids": ids} for stream, version, ids in appends]
    digest = digest or f"digest-{index}"
    return {"partition": 1, "kind": "entry", "index": index, "term": term, "digest": digest, "appends": parts}


def logs_of(**nodes: list[dict[str, Any]]) -> StoredLogs:
    logs = StoredLogs()
    for node, entries in nodes.items():
        state = {"partition": 1, "kind": "state", "applied": len(entries), "last": len(entries)}
        logs.read(node, [json.dumps(line).encode() for line in (state, *entries)])
    return logs


SOUND = [entry(1), entry(2, ("s", 1, ["a", "b"])), entry(3, ("s", 3, ["c"]), term=2)]


def test_equal_logs_with_every_acknowledged_event_pass() -> None:
    history = History(acknowledged={"a": ("s", 1), "c": ("s", 3)}, unknown={"b"}, refused={"d": "Unavailable"})

    assert logs_of(n1=SOUND, n2=SOUND).check(history) == []


def test_a_lost_event_is_found() -> None:
    logs = logs_of(n1=SOUND, n2=SOUND[:2])

    assert len(logs.check(History(acknowledged={"c": ("s", 3)}))) == 1
    assert logs.check_acknowledged(History(acknowledged={"c": ("s", 3)}), copies=1) == []


def test_an_event_in_another_place_than_acknowledged_is_found() -> None:
    assert len(logs_of(n1=SOUND).check(History(acknowledged={"c": ("s", 2)}))) == 1


def test_an_event_that_is_there_twice_is_found() -> None:
    assert "again" in logs_of(n1=[*SOUND, entry(4, ("t", 1, ["c"]), term=2)]).check(History())[0]


def test_versions_with_a_hole_are_found() -> None:
    assert "after 2" in logs_of(n1=[*SOUND[:2], entry(3, ("s", 4, ["c"]))]).check(History())[0]


def test_a_refused_event_that_was_written_is_found() -> None:
    assert "refused" in logs_of(n1=SOUND).check(History(refused={"c": "Unavailable"}))[0]


def test_replicas_that_differ_are_found() -> None:
    other = [*SOUND[:2], entry(3, ("s", 3, ["c"]), term=2, digest="another")]

    assert "entry 3 differs" in logs_of(n1=SOUND, n2=other).check(History())[0]


def test_a_log_with_a_hole_is_found() -> None:
    logs = logs_of(n1=[SOUND[0], SOUND[2]])

    assert "holes" in logs.check(History())[0]


def test_terms_that_go_back_are_found() -> None:
    assert "terms" in logs_of(n1=[entry(1, term=2), entry(2, term=1)]).check(History())[0]
