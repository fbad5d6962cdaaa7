"""The checker on correct histories, each with one broken promise planted in it: it must be named by its kind."""

from collections import Counter
from dataclasses import replace

import pytest
from histories.history import ANY, AppendDone, EventContent, Outcome, Part, Refusal
from histories.planting import CLIENT, LATE_US, PARTITION, STRANGER, Case, Plant, Plants
from histories.violations import Kind

SEEDS = range(5)
PLANTS = Plants()


# Acknowledgements and the log.


@PLANTS.breaks(Kind.LOST_ACKNOWLEDGEMENT)
def an_acknowledged_append_that_is_nowhere(case: Case) -> None:
    context, stream, _ = case.outdated()
    place = case.written().places[0]
    case.add_append(context, (Part(stream, ANY, (STRANGER,)),), Outcome.OK, places=(place,))


@PLANTS.breaks(Kind.LOST_ACKNOWLEDGEMENT)
def a_log_that_lost_its_end(case: Case) -> None:
    number, _ = case.find(case.written())
    case.rewrite(case.entries[:number])


@PLANTS.breaks(Kind.LOST_ACKNOWLEDGEMENT)
def two_appends_with_the_same_ids_that_were_acknowledged_and_stored_once(case: Case) -> None:
    append = case.written(expected=ANY)
    case.add_append(append.context, append.parts, Outcome.OK, places=append.places)


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_acknowledgement_with_another_version(case: Case) -> None:
    append = case.written(expected=ANY)
    case.change(append, places=(append.places[0]._replace(version=append.places[0].version + 1),))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_acknowledgement_with_another_position(case: Case) -> None:
    append = case.written()
    case.change(append, places=(append.places[0]._replace(position=append.places[0].position + 1),))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_acknowledgement_with_another_timestamp(case: Case) -> None:
    append = case.written()
    case.change(append, places=(append.places[0]._replace(timestamp=append.places[0].timestamp + 1),))


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_append_that_stands_where_it_did_not_expect_to(case: Case) -> None:
    append = case.written()
    version = append.places[0].version - len(append.parts[0].events)
    case.change(append, parts=(append.parts[0]._replace(expected=version + 1),), outcome=Outcome.UNKNOWN, places=())


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_append_that_stands_in_another_stream(case: Case) -> None:
    append = case.written()
    case.rewrite_part(*case.find(append), stream="elsewhere", first_version=1)


@PLANTS.breaks(Kind.WRONG_PLACE)
def an_append_that_stands_before_one_that_was_acknowledged_before_it_began(case: Case) -> None:
    append = case.written()
    case.history.reads = []
    case.history.appends = [each for each in case.history.appends if each.outcome is not Outcome.REFUSED]
    case.change(append, begun_us=LATE_US, ended_us=LATE_US + 1)


@PLANTS.breaks(Kind.DUPLICATE)
def an_append_that_is_stored_twice(case: Case) -> None:
    append = case.written(expected=ANY)
    case.store(append.context, *append.parts)


@PLANTS.breaks(Kind.DUPLICATE)
def an_unknown_append_that_is_stored_twice(case: Case) -> None:
    append = case.written(expected=ANY)
    case.change(append, outcome=Outcome.UNKNOWN, places=())
    case.store(append.context, *append.parts)


@PLANTS.breaks(Kind.DUPLICATE)
def two_numbers_of_one_append_of_which_one_is_stored_twice(case: Case) -> None:
    append = case.written(expected=ANY)
    case.add_append(append.context, append.parts, Outcome.UNKNOWN)
    case.change(append, outcome=Outcome.UNKNOWN, places=())
    number, place = case.find(append)
    (part,) = case.store(append.context, *append.parts)
    twin = case.entries[number].appends[place]
    assert part.ids == twin.ids
    case.rewrite_part(len(case.entries) - 1, 0, session=twin.session, sequence=twin.sequence)


@PLANTS.breaks(Kind.PHANTOM)
def an_append_that_nobody_made(case: Case) -> None:
    context, stream, _ = case.outdated()
    case.store(context, Part(stream, ANY, (STRANGER,)))


@PLANTS.breaks(Kind.PHANTOM)
def contents_that_nobody_appended(case: Case) -> None:
    append = case.written()
    case.rewrite_part(*case.find(append), digests=(STRANGER.digest,) * len(append.parts[0].events))


@PLANTS.breaks(Kind.TORN_BATCH)
def an_append_without_its_last_event(case: Case) -> None:
    append = case.written(events_min=2)
    number, place = case.find(append)
    part = case.entries[number].appends[place]
    case.rewrite_part(number, place, ids=part.ids[:-1], digests=part.digests[:-1])


@PLANTS.breaks(Kind.TORN_BATCH)
def an_append_without_its_second_part(case: Case) -> None:
    number, place = case.find(case.written(parts=2))
    entries = case.entries
    appends = entries[number].appends
    entries[number] = replace(entries[number], appends=(*appends[: place + 1], *appends[place + 2 :]))
    case.rewrite(entries)


@PLANTS.breaks(Kind.TORN_BATCH)
def an_append_whose_parts_stand_in_two_entries(case: Case) -> None:
    number, place = case.find(case.written(parts=2))
    entries = case.entries
    first, second = entries[number].appends[: place + 1], entries[number].appends[place + 1 :]
    entries[number : number + 1] = [replace(entries[number], appends=each) for each in (first, second)]
    case.rewrite([replace(entry, index=index) for index, entry in enumerate(entries, 1)])


@PLANTS.breaks(Kind.TORN_BATCH)
def an_append_whose_parts_have_two_numbers(case: Case) -> None:
    number, place = case.find(case.written(parts=2))
    case.rewrite_part(number, place + 1, sequence=1_000_000)


@PLANTS.breaks(Kind.VERSION_HOLE)
def a_version_that_is_skipped(case: Case) -> None:
    append = case.written(expected=ANY)
    number, place = case.find(append)
    case.rewrite_part(number, place, first_version=case.entries[number].appends[place].first_version + 1)


@PLANTS.breaks(Kind.POSITION_HOLE)
def a_position_that_is_skipped(case: Case) -> None:
    number, place = case.find(case.written())
    case.rewrite_part(number, place, first_position=case.entries[number].appends[place].first_position + 1)


@PLANTS.breaks(Kind.TIMESTAMP_ORDER)
def a_timestamp_that_goes_back(case: Case) -> None:
    number, place = case.find(case.written())
    case.rewrite_part(number, place, first_timestamp=1)


@PLANTS.breaks(Kind.PIPELINED_ORDER)
def two_appends_in_the_other_order_than_submitted(case: Case) -> None:
    space = busiest(case)
    made = Counter(append.parts[0].events for append in case.history.appends)  # of what looks alike nobody can tell
    own = [append for append in case.history.appends if append_space(append) == space and append.places]
    first, second = [append for append in own if made[append.parts[0].events] == 1][:2]
    anywhere = tuple(part._replace(expected=ANY) for part in second.parts)
    case.change(first, client=CLIENT, number=2)
    case.change(second, client=CLIENT, number=1, parts=anywhere)


# Refusals.


@PLANTS.breaks(Kind.FALSE_REFUSAL)
def a_version_that_never_was(case: Case) -> None:
    context, stream, _ = case.outdated()
    version = len(case.events(context, stream)) + 7
    case.add_append(context, (Part(stream, 1, (STRANGER,)),), Outcome.REFUSED, refusal=Refusal(stream, 1, version))


@PLANTS.breaks(Kind.FALSE_REFUSAL)
def a_version_that_was_long_ago(case: Case) -> None:
    context, stream, version = case.outdated()
    refusal = Refusal(stream, 1000, version)
    case.add_append(context, (Part(stream, 1000, (STRANGER,)),), Outcome.REFUSED, refusal=refusal)


@PLANTS.breaks(Kind.FALSE_REFUSAL)
def a_refusal_for_the_version_that_was_expected(case: Case) -> None:
    context, stream, _ = case.outdated()
    head = len(case.events(context, stream))
    refusal = Refusal(stream, head, head)
    case.add_append(context, (Part(stream, head, (STRANGER,)),), Outcome.REFUSED, refusal=refusal)


@PLANTS.breaks(Kind.FALSE_REFUSAL)
def a_refusal_of_one_who_took_any_version(case: Case) -> None:
    context, stream, _ = case.outdated()
    refusal = Refusal(stream, ANY, len(case.events(context, stream)))
    case.add_append(context, (Part(stream, ANY, (STRANGER,)),), Outcome.REFUSED, refusal=refusal)


@PLANTS.breaks(Kind.FALSE_REFUSAL)
def a_refusal_where_the_first_answer_was_due(case: Case) -> None:
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    again = tuple(EventContent(event.id, event.digest) for event in events[:2])
    refusal = Refusal(stream, 0, len(events))
    case.add_append(context, (Part(stream, 0, again),), Outcome.REFUSED, refusal=refusal)


@PLANTS.breaks(Kind.REFUSED_THEN_APPLIED)
def a_refused_append_that_is_stored(case: Case) -> None:
    append = case.written(expected=ANY)
    refusal = Refusal(append.parts[0].stream, 1000, 0)
    case.change(append, outcome=Outcome.REFUSED, places=(), refusal=refusal)


@PLANTS.breaks(Kind.REFUSED_THEN_APPLIED)
def a_surely_failed_append_that_is_stored(case: Case) -> None:
    case.change(case.written(), outcome=Outcome.FAILED, places=())


# Replicas.


@PLANTS.breaks(Kind.DIVERGED_REPLICA)
def a_replica_with_another_entry(case: Case) -> None:
    log = case.replicas[1]
    log.entries[4] = replace(log.entries[4], digest="another")


@PLANTS.breaks(Kind.LOG_ORDER)
def a_log_with_a_hole(case: Case) -> None:
    del case.replicas[1].entries[3]


@PLANTS.breaks(Kind.LOG_ORDER)
def a_log_that_ends_before_what_was_applied(case: Case) -> None:
    log = case.replicas[1]
    del log.entries[log.committed - 1 :]


@PLANTS.breaks(Kind.LOG_ORDER)
def a_term_that_goes_back(case: Case) -> None:
    entries = case.entries
    entries[0] = replace(entries[0], term=100)
    case.rewrite(entries)


@PLANTS.breaks(Kind.DAMAGED_REPLICA)
def a_replica_that_cannot_be_read(case: Case) -> None:
    case.replicas[2].damage.append("entry 3: the body fails its checksum")


def append_space(append: AppendDone) -> tuple[int, str]:
    return append.context, append.parts[0].stream


def busiest(case: Case) -> tuple[int, str]:
    """Return a stream with many appends of one part that were acknowledged."""
    spaces = [append_space(each) for each in case.history.appends if each.partition == PARTITION]
    return max(sorted(set(spaces)), key=spaces.count)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_correct_history_has_no_violation(seed: int) -> None:
    assert Case.draw(seed).check() == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "plant"), PLANTS.parameters)
def test_a_broken_promise_is_named_by_its_kind(kind: Kind, plant: Plant, seed: int) -> None:
    case = Case.draw(seed)

    plant(case)
    violations = case.check()

    assert kind in {violation.kind for violation in violations}
    assert all(str(violation) for violation in violations)
