"""The checker on what consumers were given: each broken promise by its kind, and all verdicts against a plain model."""

from collections import Counter
from random import Random

import pytest
from histories.checker import check
from histories.history import (
    ANY,
    AppendDone,
    EventContent,
    History,
    Mark,
    Outcome,
    Part,
    ReadDone,
    ScanDone,
    ScannedEvent,
)
from histories.logs import StoredAppend, StoredEntry, StoredLog
from histories.model import TYPES, matches, type_of
from histories.planting import CLIENT, LATE_US, PARTITION, STRANGER, Case, Plant, Plants
from histories.violations import Kind

SEEDS = range(3)
PLANTS = Plants()
BEFORE_ALL_US = 0  # what began then was concurrent with everything


def sound(case: Case, after: int = 10, count: int = 30) -> tuple[list[ScannedEvent], int]:
    """Return the events of a subscription that saw so many positions, and the last one."""
    return case.context_events()[after : after + count], after + count


def mark(events: list[ScannedEvent], through: int) -> tuple[Mark, ...]:
    return (Mark(LATE_US + 1, len(events), through),)


@PLANTS.breaks(Kind.GAP)
def an_event_that_a_subscription_leaves_out(case: Case) -> None:
    events, through = sound(case)
    del events[7]
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.GAP)
def the_first_event_after_a_resumption_left_out(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events[1:], marks=mark(events[1:], through))


@PLANTS.breaks(Kind.GAP)
def a_checkpoint_beyond_the_last_event_that_was_given(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events[:-1], marks=mark(events[:-1], through))


@PLANTS.breaks(Kind.GAP)
def a_matching_event_that_a_filter_takes_out(case: Case) -> None:
    events, through = sound(case)
    wanted = matches(events, TYPES[:1], "")[1:]
    case.add_scan(10, wanted, marks=mark(wanted, through), types=TYPES[:1])


@PLANTS.breaks(Kind.GAP)
def a_whole_reversed_read_without_its_last_event(case: Case) -> None:
    events = case.context_events()[10:]
    case.add_scan(10, events[:0:-1], newest=10 + len(events), reverse=True, whole=True)


@PLANTS.breaks(Kind.GAP)
def a_limited_reversed_read_that_does_not_begin_with_the_newest(case: Case) -> None:
    events = case.context_events()
    case.add_scan(0, events[-2:-4:-1], newest=len(events), reverse=True, limit=2)


@PLANTS.breaks(Kind.DUPLICATE)
def an_event_that_is_given_twice(case: Case) -> None:
    events, through = sound(case)
    events.insert(7, events[6])
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.DUPLICATE)
def a_range_that_is_given_twice(case: Case) -> None:
    events, through = sound(case)
    events[20:20] = events[10:20]
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.EVENT_ORDER)
def two_events_in_the_other_order(case: Case) -> None:
    events, through = sound(case)
    events[5:7] = events[6], events[5]
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.EVENT_ORDER)
def a_reversed_read_that_goes_forward(case: Case) -> None:
    events = case.context_events()
    case.add_scan(0, events, newest=len(events), reverse=True, whole=True)


@PLANTS.breaks(Kind.WRONG_RANGE)
def an_event_from_before_the_checkpoint(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(11, events, marks=mark(events, through))


@PLANTS.breaks(Kind.WRONG_RANGE)
def an_event_of_another_type(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events, marks=mark(events, through), types=TYPES[:1])


@PLANTS.breaks(Kind.WRONG_RANGE)
def an_event_of_a_stream_with_another_beginning(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events, marks=mark(events, through), prefix="elsewhere")


@PLANTS.breaks(Kind.WRONG_RANGE)
def more_events_than_the_limit(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events, marks=mark(events, through), limit=len(events) - 1)


@PLANTS.breaks(Kind.PHANTOM)
def an_event_that_is_not_stored(case: Case) -> None:
    events, through = sound(case)
    events[3] = events[3]._replace(id=STRANGER.id)
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.PHANTOM)
def an_event_with_other_contents(case: Case) -> None:
    events, through = sound(case)
    events[3] = events[3]._replace(digest=STRANGER.digest)
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.PHANTOM)
def an_event_beyond_the_log(case: Case) -> None:
    events = case.context_events()
    case.add_scan(len(events) - 1, [events[-1], events[-1]._replace(position=len(events) + 1)])


@PLANTS.breaks(Kind.PHANTOM)
def a_checkpoint_beyond_the_log(case: Case) -> None:
    events = case.context_events()
    case.add_scan(len(events), (), marks=mark([], len(events) + 1))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_event_at_another_s_position(case: Case) -> None:
    events, through = sound(case)
    events[3] = events[3]._replace(id=events[4].id)
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_event_with_another_version(case: Case) -> None:
    events, through = sound(case)
    events[3] = events[3]._replace(version=events[3].version + 1)
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_event_with_another_timestamp(case: Case) -> None:
    events, through = sound(case)
    events[3] = events[3]._replace(timestamp=events[3].timestamp + 1)
    case.add_scan(10, events, marks=mark(events, through))


@PLANTS.breaks(Kind.WRONG_CHECKPOINT)
def a_checkpoint_before_the_last_event_that_was_given(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events, marks=mark(events, through - 1))


@PLANTS.breaks(Kind.WRONG_CHECKPOINT)
def a_checkpoint_on_the_way_that_is_too_far(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events, marks=(Mark(LATE_US, 5, 16), *mark(events, through)))


@PLANTS.breaks(Kind.WRONG_CHECKPOINT)
def a_checkpoint_on_the_way_that_is_too_near(case: Case) -> None:
    events, through = sound(case)
    case.add_scan(10, events, marks=(Mark(LATE_US, 5, 14), *mark(events, through)))


@PLANTS.breaks(Kind.WRONG_CHECKPOINT)
def a_checkpoint_that_goes_back(case: Case) -> None:
    marks = (Mark(LATE_US, 0, 40), Mark(LATE_US, 0, 39))
    case.add_scan(10, (), marks=marks, types=("Never",))


@PLANTS.breaks(Kind.STALE_READ)
def a_read_all_that_misses_what_was_acknowledged(case: Case) -> None:
    newest = newest_but_one(case)
    case.add_scan(newest, (), newest=newest, whole=True)


@PLANTS.breaks(Kind.STALE_READ)
def a_reversed_read_all_that_misses_what_was_acknowledged(case: Case) -> None:
    newest = newest_but_one(case)
    case.add_scan(0, (case.context_events()[newest - 1],), newest=newest, reverse=True, limit=1)


@PLANTS.breaks(Kind.STALE_READ)
def a_read_all_of_any_replica_that_did_not_wait_for_its_token(case: Case) -> None:
    newest = newest_but_one(case)
    case.add_scan(newest, (), newest=newest, fresh=False, at_least=newest + 1, whole=True)


@PLANTS.breaks(Kind.STALE_READ)
def a_subscription_from_now_that_begins_in_the_past(case: Case) -> None:
    newest = newest_but_one(case)
    events = case.context_events()[newest:]
    case.add_scan(newest, events, marks=mark(events, newest + len(events)), newest=newest)


@PLANTS.breaks(Kind.STALE_READ)
def a_read_that_misses_what_a_subscription_has_shown(case: Case) -> None:
    parts = (Part("p0-s1", ANY, (STRANGER,)),)
    (stored,) = case.store(1, *parts)
    event = case.context_events()[-1]
    who = CLIENT, 1, 1, PARTITION
    case.history.add(AppendDone(*who, LATE_US, None, parts, Outcome.UNKNOWN))
    # The subscription goes on for long after it has shown the event, and the read begins meanwhile.
    marks = (Mark(LATE_US + 1, 1, event.position),)
    case.history.add(ScanDone(*who, LATE_US, LATE_US + 99, event.position - 1, (event,), marks))
    case.history.add(ReadDone(*who, LATE_US + 2, LATE_US + 3, "p0-s1", version=stored.first_version - 1))


@PLANTS.breaks(Kind.FUTURE_READ)
def an_append_that_was_shown_before_it_began(case: Case) -> None:
    parts = (Part("p0-s1", ANY, (STRANGER,)),)
    case.store(1, *parts)
    event = case.context_events()[-1]
    case.add_scan(event.position - 1, (event,), marks=mark([event], event.position))
    case.history.add(AppendDone(CLIENT, 2, 1, PARTITION, LATE_US + 9, None, parts, Outcome.UNKNOWN))


@PLANTS.breaks(Kind.TORN_BATCH)
def a_newest_position_within_a_batch(case: Case) -> None:
    append = case.written(events_min=2)
    position = append.places[0].position - 1
    who = CLIENT, 1, append.context, PARTITION
    case.history.add(ScanDone(*who, BEFORE_ALL_US, LATE_US, position, newest=position, fresh=False, whole=True))


def newest_but_one(case: Case) -> int:
    """Return the newest position before the last append that was acknowledged."""
    places = [
        (append.places[0].position, len(append.parts[0].events))
        for append in case.history.appends
        if append.outcome is Outcome.OK and append.context == 1 and append.partition == PARTITION
    ]
    last, count = max(places)
    return last - count


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "plant"), PLANTS.parameters)
def test_a_broken_promise_is_named_by_its_kind(kind: Kind, plant: Plant, seed: int) -> None:
    case = Case.draw(seed)

    plant(case)
    violations = case.check()

    assert {violation.kind for violation in violations} == {kind}
    assert all(str(violation) for violation in violations)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_subscription_is_given_over_several_lives_is_taken(seed: int) -> None:
    case = Case.draw(seed)
    events, through = sound(case)
    marks = tuple(Mark(LATE_US, count, 10 + count) for count in range(1, len(events) + 1))

    case.add_scan(10, events, marks=marks)
    case.add_scan(20, events[10:], marks=mark(events[10:], through))  # from a checkpoint on the way
    case.add_scan(through, ())

    assert case.check() == []


def test_a_log_without_types_judges_filters_by_what_it_knows() -> None:
    case = Case.draw(0)
    events, through = sound(case)
    for log in case.logs:
        log.entries = [bare(entry) for entry in log.entries]
    wanted = matches(events, TYPES[:1], "")

    case.add_scan(10, wanted, marks=mark(wanted, through), types=TYPES[:1])
    assert case.check() == []
    wanted[:2] = wanted[1], wanted[0]
    case.add_scan(10, wanted, marks=mark(wanted, through), types=TYPES[:1])
    assert {violation.kind for violation in case.check()} == {Kind.EVENT_ORDER}


def bare(entry: StoredEntry) -> StoredEntry:
    """Return an entry as a dump tells it."""
    parts = (part._replace(first_timestamp=0, digests=(), session=0, sequence=0, types=()) for part in entry.appends)
    return StoredEntry(entry.index, entry.term, entry.digest, entry.context, tuple(parts))


# Against a plain model: all that a small scan can be, most of it wrong.

POSITIONS = 4
STREAM = "s"
CASES = 4_000


def small_log() -> tuple[list[ScannedEvent], list[AppendDone], StoredLog]:
    """Return four events, an append each."""
    events = [ScannedEvent(STREAM, each, each, each, f"{each:032x}", f"d{each}") for each in range(1, POSITIONS + 1)]
    log = StoredLog("n1", PARTITION, POSITIONS)
    appends = []
    for event in events:
        types = (type_of(event.id),)
        stored = StoredAppend(STREAM, event.version, event.position, event.timestamp, (event.id,), (event.digest,))
        log.entries.append(StoredEntry(event.position, 1, f"e{event.position}", 1, (stored._replace(types=types),)))
        part = Part(STREAM, ANY, (EventContent(event.id, event.digest),))
        appends.append(AppendDone(CLIENT, event.position, 1, PARTITION, 0, None, (part,), Outcome.UNKNOWN))
    return events, appends, log


def is_right(scan: ScanDone, events: list[ScannedEvent]) -> bool:
    """Say what a scan must be, as plainly as can be."""
    end = (scan.newest or 0) if scan.reverse else (scan.marks[-1].through if scan.marks else scan.after)
    if any(position > POSITIONS for position in (scan.after, end, scan.newest or 0)):
        return False
    if scan.newest is not None and scan.newest < scan.after:
        return False
    wanted = matches([event for event in events if scan.after < event.position <= end], scan.types, "")
    if scan.reverse:
        wanted = wanted[::-1] if scan.whole else wanted[::-1][: len(scan.events)]
    throughs = [scan.after, *(mark.through for mark in scan.marks)]
    return (
        list(scan.events) == wanted
        and (scan.limit is None or len(scan.events) <= scan.limit)
        and throughs == sorted(throughs)
        and all(len(matches(events[scan.after : mark.through], scan.types, "")) == mark.events for mark in scan.marks)
    )


def draw_scan(random: Random, events: list[ScannedEvent]) -> ScanDone:
    """Return a scan, wrong in any way or not at all."""
    reverse = random.random() < 0.3
    after = random.choice((0, 0, 1, 2, POSITIONS))
    end = random.choice((after, POSITIONS, POSITIONS, POSITIONS + 1, 3))
    types = random.choice((None, TYPES[:1], TYPES[:2]))
    seen = matches(events[after:end], types, "")
    for _ in range(random.choice((0, 0, 1, 2))):
        other = random.choice(events)
        change = random.choice(("leave out", "put in", "swap"))
        if change == "put in":
            seen.insert(random.randint(0, len(seen)), other)
        elif change == "leave out" and seen:
            seen.remove(random.choice(seen))
        elif len(seen) > 1:
            seen[:2] = seen[1], seen[0]
    who = CLIENT, 1, 1, PARTITION, 0, 1
    limit = random.choice((None, None, 2))
    if reverse:
        whole = random.random() < 0.5
        return ScanDone(*who, after, tuple(seen[::-1]), (), end, types, "", limit, reverse, whole=whole)
    halfway = random.randint(0, len(seen))
    through = random.randint(min(after, end), max(after, end))
    marks = [Mark(1, halfway, through), Mark(1, len(seen), end)][random.randint(0, 2) :]
    return ScanDone(*who, after, tuple(seen), tuple(marks), None, types, "", limit)


def test_every_verdict_is_that_of_a_plain_model() -> None:
    events, appends, log = small_log()
    random = Random(1)
    verdicts: Counter[bool] = Counter()

    for _ in range(CASES):
        scan = draw_scan(random, events)
        right = is_right(scan, events)
        violations = check(History(appends, [], [scan]), [log])
        verdicts[right] += 1
        assert (not violations) == right, (scan, violations)

    assert min(verdicts[True], verdicts[False]) > CASES // 10
