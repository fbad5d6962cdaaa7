"""The checker on correct histories with a read in each that breaks a promise: it must be named by its kind."""

import pytest
from histories.history import ANY, AppendDone, EventContent, Outcome, Part, ReadDone
from histories.planting import CLIENT, LATE_US, PARTITION, STRANGER, Case, Plant, Plants
from histories.violations import Kind

SEEDS = range(5)
PLANTS = Plants()


@PLANTS.breaks(Kind.STALE_READ)
def a_version_from_before_what_others_were_told(case: Case) -> None:
    context, stream, version = case.outdated()
    case.add_read(context, stream, version=version)


@PLANTS.breaks(Kind.STALE_READ)
def a_read_that_misses_the_last_append(case: Case) -> None:
    context, stream, version = case.outdated()
    case.add_read(context, stream, events=tuple(case.events(context, stream)[:version]))


@PLANTS.breaks(Kind.STALE_READ)
def a_reversed_read_that_misses_the_last_append(case: Case) -> None:
    context, stream, version = case.outdated()
    event = case.events(context, stream)[version - 1]
    case.add_read(context, stream, reverse=True, limit=1, events=(event,))


@PLANTS.breaks(Kind.STALE_READ)
def a_read_that_finds_nothing_where_something_was_acknowledged(case: Case) -> None:
    context, stream, version = case.outdated()
    case.add_read(context, stream, after=version)


@PLANTS.breaks(Kind.STALE_READ)
def a_read_of_any_replica_that_did_not_wait_for_its_token(case: Case) -> None:
    context, stream, version = case.outdated()
    newest = case.streams()[context, stream][-1].first_position
    case.add_read(context, stream, version=version, fresh=False, at_least=newest)


@PLANTS.breaks(Kind.STALE_READ)
def a_token_that_is_newer_than_what_was_read(case: Case) -> None:
    context, stream, version = case.outdated()
    newest = case.streams()[context, stream][-1].first_position
    # Concurrent with everything, so that nothing but its own token says that it is old.
    case.history.add(ReadDone(CLIENT, 1, context, PARTITION, 0, LATE_US, stream, version=version, seen=newest))


@PLANTS.breaks(Kind.STALE_READ)
def a_fresh_read_that_misses_what_a_read_of_any_replica_has_shown(case: Case) -> None:
    parts = (Part("p0-s1", ANY, (STRANGER,)),)
    (stored,) = case.store(1, *parts)
    who = CLIENT, 1, 1, PARTITION
    case.history.add(AppendDone(*who, LATE_US, None, parts, Outcome.UNKNOWN))
    case.history.add(ReadDone(*who, LATE_US, LATE_US + 1, "p0-s1", fresh=False, version=stored.first_version))
    case.history.add(ReadDone(*who, LATE_US + 2, LATE_US + 3, "p0-s1", version=stored.first_version - 1))


@PLANTS.breaks(Kind.STALE_READ)
def a_fresh_read_that_misses_a_position_that_was_named(case: Case) -> None:
    parts = (Part("p0-s1", ANY, (STRANGER,)),)
    (stored,) = case.store(1, *parts)
    who = CLIENT, 1, 1, PARTITION
    case.history.add(AppendDone(*who, LATE_US, None, parts, Outcome.UNKNOWN))
    case.history.add(ReadDone(*who, LATE_US, LATE_US + 1, "empty", version=0, seen=stored.first_position))
    case.history.add(ReadDone(*who, LATE_US + 2, LATE_US + 3, "p0-s1", version=stored.first_version - 1))


@PLANTS.breaks(Kind.FUTURE_READ)
def an_append_that_was_read_before_it_began(case: Case) -> None:
    parts = (Part("p0-s1", ANY, (STRANGER,)),)
    (stored,) = case.store(1, *parts)
    case.add_read(1, "p0-s1", version=stored.first_version)
    case.history.add(AppendDone(CLIENT, 2, 1, PARTITION, LATE_US + 9, None, parts, Outcome.UNKNOWN))


@PLANTS.breaks(Kind.PHANTOM)
def a_version_beyond_the_log(case: Case) -> None:
    context, stream, _ = case.outdated()
    case.add_read(context, stream, version=len(case.events(context, stream)) + 1, fresh=False)


@PLANTS.breaks(Kind.PHANTOM)
def an_event_that_is_read_and_stored_nowhere(case: Case) -> None:
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    events[1] = events[1]._replace(id=STRANGER.id)
    case.add_read(context, stream, events=tuple(events))


@PLANTS.breaks(Kind.PHANTOM)
def an_event_that_is_read_with_other_contents(case: Case) -> None:
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    events[1] = events[1]._replace(digest=STRANGER.digest)
    case.add_read(context, stream, events=tuple(events))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_event_that_is_read_at_another_position(case: Case) -> None:
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    events[-1] = events[-1]._replace(position=events[-1].position + 1)
    case.add_read(context, stream, events=tuple(events))


@PLANTS.breaks(Kind.WRONG_PLACE)
def two_events_that_are_read_in_each_other_s_place(case: Case) -> None:
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    events[:2] = events[0]._replace(id=events[1].id), events[1]._replace(id=events[0].id)
    case.add_read(context, stream, events=tuple(events))


@PLANTS.breaks(Kind.VERSION_HOLE)
def an_event_that_a_read_leaves_out(case: Case) -> None:
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    case.add_read(context, stream, events=(*events[:1], *events[2:]))


@PLANTS.breaks(Kind.VERSION_HOLE)
def a_reversed_read_that_ends_early(case: Case) -> None:
    context, stream, _ = case.outdated()
    case.add_read(context, stream, reverse=True, events=tuple(case.events(context, stream)[:0:-1]))


@PLANTS.breaks(Kind.WRONG_RANGE)
def more_events_than_were_asked_for(case: Case) -> None:
    context, stream, _ = case.outdated()
    case.add_read(context, stream, limit=1, events=tuple(case.events(context, stream)[:2]))


@PLANTS.breaks(Kind.WRONG_RANGE)
def an_event_that_the_reader_had_already(case: Case) -> None:
    context, stream, _ = case.outdated()
    case.add_read(context, stream, after=1, events=tuple(case.events(context, stream)))


@PLANTS.breaks(Kind.TORN_BATCH)
def a_version_within_a_batch(case: Case) -> None:
    append = case.written(events_min=2)
    stream, version = append.parts[0].stream, append.places[0].version - 1
    case.add_read(append.context, stream, version=version, fresh=False)


@PLANTS.breaks(Kind.STALE_READ)
def one_stream_of_a_batch_without_the_other(case: Case) -> None:
    parts = (Part("p0-s1", ANY, (STRANGER,)), Part("p0-s2", ANY, (EventContent("e" * 32, STRANGER.digest),)))
    first, second = case.store(1, *parts)
    who = CLIENT, 1, 1, PARTITION
    case.history.add(AppendDone(*who, LATE_US, None, parts, Outcome.UNKNOWN))
    case.history.add(ReadDone(*who, LATE_US, LATE_US + 1, "p0-s1", version=first.first_version))
    case.history.add(ReadDone(*who, LATE_US + 2, LATE_US + 3, "p0-s2", version=second.first_version - 1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "plant"), PLANTS.parameters)
def test_a_broken_promise_is_named_by_its_kind(kind: Kind, plant: Plant, seed: int) -> None:
    case = Case.draw(seed)

    plant(case)
    violations = case.check()

    assert kind in {violation.kind for violation in violations}
    assert all(str(violation) for violation in violations)
