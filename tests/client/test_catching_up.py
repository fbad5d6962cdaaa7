"""The last event of the past is told from the others: it waits until it is known to be the last, but never for long."""

from collections.abc import Callable
from typing import Any

import pytest

from rewind.events import ANY, NewEvent
from rewind.feed import Batch
from rewind.inbox import HOLD_US
from rewind.rows import Rows


def add(lab: Any, stream: str, count: int = 1, kind: str = "T", data: bytes = b"") -> int:
    """Append events one by one, and return their partition."""
    for _ in range(count):
        append = lab.calls.append(stream, NewEvent(kind, data), ANY, None)
        lab.session.append(append, lab.now_us)
        lab.run(append)
    return append.partition  # type: ignore[no-any-return] # a lab is loaded as a plain module


def mute(lab: Any, *partitions: int) -> None:
    """Let all nodes say nothing of these partitions' subscriptions, and speak of the others."""
    for node in lab.cluster.nodes:
        node.feeds.muted = set(partitions)


def pops(watcher: Any) -> list[tuple[int, bool]]:
    """Pop what there is: positions, and whether the subscription then says that it has caught up."""
    found = []
    while watcher.take(1):
        found.append((watcher.events[-1].position, watcher.inbox.caught_up))
    return found


def wait_us(lab: Any, watcher: Any) -> int | None:
    return watcher.inbox.wait_us(lab.now_us)  # type: ignore[no-any-return] # as above


def elsewhere(lab: Any, partition: int) -> tuple[str, int]:
    """Return a stream of another partition, with one event, and that partition."""
    for number in range(100):
        other = add(lab, f"other-{number}")
        if other != partition:
            return f"other-{number}", other
    raise AssertionError("all streams are in one partition")


def others(lab: Any, *partitions: int) -> list[int]:
    return [each for each in lab.cluster.partitions if each not in partitions]


def test_the_last_event_waits_until_every_partition_was_heard(lab: Any) -> None:
    partition = add(lab, "s", 5)
    silent = others(lab, partition)
    mute(lab, *silent)
    watcher = lab.subscribe(eager=False)

    lab.settle()
    first = pops(watcher)
    mute(lab, *silent[1:])
    lab.settle()
    still = pops(watcher)
    between = watcher.inbox.checkpoint
    mute(lab)
    lab.settle()

    assert first == [(1, False), (2, False), (3, False), (4, False)]
    assert still == []
    assert f"{partition}:4" in between
    assert pops(watcher) == [(5, True)]
    assert f"{partition}:5" in watcher.inbox.checkpoint


def test_another_event_behind_it_sends_it_on_its_way(lab: Any) -> None:
    partition = add(lab, "s", 2)
    mute(lab, *others(lab, partition))
    watcher = lab.subscribe(eager=False)
    lab.settle()
    before = pops(watcher)

    add(lab, "s")
    lab.settle()

    assert before == [(1, False)]
    assert pops(watcher) == [(2, False)]
    mute(lab)
    lab.settle()
    assert pops(watcher) == [(3, True)]


def test_a_partition_in_trouble_holds_up_the_others_only_once(lab: Any) -> None:
    partition = add(lab, "s", 2)
    mute(lab, *others(lab, partition))
    watcher = lab.subscribe(eager=False)
    lab.settle()

    early = pops(watcher)
    asked_us = wait_us(lab, watcher)
    lab.now_us += HOLD_US - 1
    left_us = wait_us(lab, watcher)
    late = pops(watcher)
    lab.now_us += 1
    over_us = wait_us(lab, watcher)
    let_go = pops(watcher)
    add(lab, "s")
    lab.settle()

    assert (asked_us, left_us, over_us) == (HOLD_US, 1, 0)
    assert (early, late, let_go) == ([(1, False)], [], [(2, False)])
    assert pops(watcher) == [(3, False)]
    assert wait_us(lab, watcher) is None


def test_events_of_other_partitions_do_not_lengthen_the_wait_for_one(lab: Any) -> None:
    partition = add(lab, "s")
    mute(lab, *others(lab, partition))
    watcher = lab.subscribe(eager=False)
    lab.settle()
    pops(watcher)
    wait_us(lab, watcher)

    lab.now_us += HOLD_US - 1
    add(lab, "s")
    lab.settle()
    released = pops(watcher)

    assert released == [(1, False)]
    assert wait_us(lab, watcher) == 1


def test_what_moves_on_is_waited_for(lab: Any) -> None:
    partition = add(lab, "s")
    silent = others(lab, partition)
    mute(lab, *silent)
    watcher = lab.subscribe(eager=False)
    lab.settle()
    pops(watcher)
    wait_us(lab, watcher)

    lab.now_us += HOLD_US
    wait_us(lab, watcher)  # its patience has ended …
    mute(lab, *silent[1:])
    lab.settle()

    assert pops(watcher) == []  # … and begins anew
    assert wait_us(lab, watcher) == HOLD_US


def test_nothing_is_waited_for_where_nothing_is_held(lab: Any) -> None:
    watcher = lab.subscribe(eager=False)

    lab.settle()

    assert pops(watcher) == []
    assert wait_us(lab, watcher) is None
    assert watcher.inbox.caught_up


@pytest.mark.parametrize("partitions", [1, 4])
def test_what_a_filter_takes_out_behind_the_last_event_is_waited_for(
    make_lab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    monkeypatch.setattr("fake_ranges.MESSAGE_POSITIONS", 5)
    lab = make_lab(partitions=partitions).connect()
    add(lab, "wanted")
    for number in range(60):
        add(lab, f"other-{number}")
    watcher = lab.subscribe(prefix="wanted", eager=False)
    found: list[tuple[int, bool]] = []
    watcher.put = lambda batch: (watcher.inbox.put(batch), found.extend(pops(watcher)))

    lab.settle()

    assert [caught_up for _, caught_up in found] == [True]


def test_an_event_that_is_held_takes_no_room_from_what_is_waited_for(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.feed.WINDOWS_BYTES", 20_000)
    monkeypatch.setattr("rewind.feed.WINDOW_BYTES_MIN", 20_000)
    monkeypatch.setattr("fake_ranges.MESSAGE_POSITIONS", 1)
    add(one, "s", kind="A", data=bytes(30_000))
    add(one, "s", 10, kind="B")
    watcher = one.subscribe(types=["A"], eager=False)
    (feed,) = one.session.feeds._tails[watcher.tail]

    one.settle()
    early = pops(watcher)
    one.settle()

    assert early == []
    assert pops(watcher) == [(1, True)]
    assert feed._held == 0  # each range was counted once


def test_nothing_is_held_any_more_once_it_has_caught_up(lab: Any) -> None:
    partition = add(lab, "s")
    stream, other = elsewhere(lab, partition)
    watcher = lab.subscribe(eager=False)
    lab.settle()
    *_, (_, caught_up) = pops(watcher)
    feed = next(each for each in lab.session.feeds._tails[watcher.tail] if each.partition == partition)

    watcher.inbox.put(Batch(feed, Rows(partition, (), 0), 50, 0, 100))  # it began anew, and much is missing
    add(lab, stream)
    lab.settle()

    assert caught_up
    assert pops(watcher) == [(watcher.events[-1].position, False)]
    assert watcher.events[-1].partition == other


def test_a_partition_that_begins_anew_before_that_must_arrive_again(lab: Any) -> None:
    partition = add(lab, "s")
    silent = others(lab, partition)
    mute(lab, *silent)
    watcher = lab.subscribe(eager=False)
    lab.settle()
    feed = next(each for each in lab.session.feeds._tails[watcher.tail] if each.partition == partition)

    watcher.inbox.put(Batch(feed, Rows(partition, (), 0), 50, 0, 100))
    mute(lab)
    lab.settle()
    early = pops(watcher)
    watcher.inbox.put(Batch(feed, Rows(partition, (), 0), 100, 0, None))

    assert early == []
    assert pops(watcher) == [(1, True)]


def test_a_subscription_that_ends_drops_what_is_held_and_says_nothing_of_it(lab: Any) -> None:
    partition = add(lab, "s")
    mute(lab, *others(lab, partition))
    watcher = lab.subscribe(eager=False)
    lab.settle()
    held = pops(watcher) == []

    watcher.close()

    assert held
    assert f"{partition}:0" in watcher.inbox.checkpoint
    assert not watcher.inbox.caught_up
