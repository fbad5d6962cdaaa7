"""What appends were answered, against the log: acknowledgements, refusals, and the order of what was pipelined."""

from collections.abc import Iterable, Iterator, Sequence

from histories.authors import Authors
from histories.history import ANY, AppendDone, Outcome, Place
from histories.stored import Group, Space, Stored
from histories.timeline import Bounds
from histories.violations import Kind, Violation


def standing(append: AppendDone, stored: Stored, versions: Sequence[int]) -> list[Place] | None:
    """Return where the last events of an append's parts stand, if all stand as if these were their last versions."""
    places = []
    for part, version in zip(append.parts, versions, strict=True):
        stream = stored.stream(append.context, part.stream)
        first = version - len(part.events)  # negative after `ANY`
        if stream.broken or first < 0 or version > stream.head:
            return None
        logged = stream.events[first:version]
        if any(event.id != own.id for event, own in zip(logged, part.events, strict=True)):
            return None
        places.append(Place(*logged[-1][:3]))
    return places


def _last_place(append: AppendDone, stored: Stored, places: Sequence[Place]) -> int:
    """Return the place in the log that made all of these versions there."""
    streams = (stored.stream(append.context, part.stream) for part in append.parts)
    return max(stream.place_of(place.version) for stream, place in zip(streams, places, strict=True))


# Acknowledgements.


def bounds_of_acknowledgement(append: AppendDone, stored: Stored) -> Bounds:
    """Return what an acknowledgement has shown: that its events stand where it says, if they do."""
    places = standing(append, stored, [place.version for place in append.places])
    shows = 0 if places is None else _last_place(append, stored, places)
    return Bounds(append, shows, stored.end)


def check_acknowledgements(appends: Iterable[AppendDone], authors: Authors, stored: Stored) -> Iterator[Violation]:
    """Yield the acknowledgements that are not in the log, or not as they were told."""
    for append in appends:
        if append.outcome is not Outcome.OK or id(append) in authors.blamed:
            continue
        group = authors.groups.get(id(append))
        true = _first_answer(append, stored) if group is None else _places(group)
        if true is None:
            text = f"what was acknowledged is not in the log of partition {stored.partition}"
            yield Violation(Kind.LOST_ACKNOWLEDGEMENT, text, (append,))
        elif not all(map(_equal, append.places, true)):
            text = f"acknowledged at {_listed(append.places)}; the log has it at {_listed(true)}"
            yield Violation(Kind.WRONG_PLACE, text, (append,))


def _places(group: Group) -> list[Place]:
    ends = ((part, len(part.ids) - 1) for part in group.parts)
    return [
        Place(
            part.first_version + ahead,
            part.first_position + ahead,
            part.first_timestamp + ahead if part.first_timestamp else 0,
        )
        for part, ahead in ends
    ]


def _first_answer(append: AppendDone, stored: Stored) -> list[Place] | None:
    """Return where an earlier append of the same IDs stands, if that is an answer.

    It is where each part expected a version: a part that took any has no place that it expected.
    """
    return standing(append, stored, [part.expected + len(part.events) for part in append.parts])


def _equal(told: Place, true: Place) -> bool:
    return told[:2] == true[:2] and (not true.timestamp or told.timestamp == true.timestamp)


def _listed(places: Sequence[Place]) -> str:
    return "; ".join(f"version {place[0]}, position {place[1]}, timestamp {place[2]}" for place in places)


# Refusals.


def bounds_of_refusal(append: AppendDone, stored: Stored) -> Bounds | Violation:
    """Return when a refusal was true: the stream had the version that it tells, and the events did not stand yet.

    Where it may mean one of several parts, the bounds are those of all of them together.
    """
    refusal = append.refusal
    assert refusal is not None, "a refused append names its refusal"
    meant = any((part.stream, part.expected) == refusal[:2] for part in append.parts)
    if refusal.expected in (ANY, refusal.actual) or not meant:
        return Violation(Kind.FALSE_REFUSAL, "it was refused for what it did not expect", (append,))
    stream = stored.stream(append.context, refusal.stream)
    if stream.broken:
        return Bounds(append, 0, stored.end)
    candidates = [
        _bounds_at(version, append, stored) for version in _versions_refused(append) if version <= stream.head
    ]
    found = [bounds for bounds in candidates if bounds.shows <= bounds.most]
    if found:
        shows, most = min(bounds.shows for bounds in found), max(bounds.most for bounds in found)
        return Bounds(append, shows, most, found[-1].why)
    where = f"partition {stored.partition}, where {refusal.stream!r} ends at version {stream.head}"
    text = f"at no time in {where}, was that the version between two appends, and the events not there as expected"
    return Violation(Kind.FALSE_REFUSAL, text, (append,))


def _bounds_at(version: int, append: AppendDone, stored: Stored) -> Bounds:
    """Return when the refused stream had a version and the events did not stand yet; never, if `most` is too low."""
    assert append.refusal is not None
    stream = stored.stream(append.context, append.refusal.stream)
    most = stream.most_before(version + 1, stored.end)
    bounds = Bounds(append, stream.place_of(version), most, f"{append.refusal.stream!r} is at version {version}")
    places = _first_answer(append, stored)
    if places is not None:
        last = _last_place(append, stored, places)
        if last <= bounds.most:
            bounds.most, bounds.why = last - 1, "its events do not stand yet where it expects them"
    return bounds


def _versions_refused(append: AppendDone) -> Iterator[int]:
    """Yield the versions that the stream may have had: parts before the refused one count on the same stream."""
    assert append.refusal is not None
    before = 0
    for part in append.parts:
        if part.stream == append.refusal.stream:
            if part.expected == append.refusal.expected and append.refusal.actual >= before:
                yield append.refusal.actual - before
            before += len(part.events)


# What was pipelined.


def check_pipelines(authors: Authors) -> Iterator[Violation]:
    """Yield the appends of one client to one stream that stand in another order than they were submitted in.

    Left out are those of which several look alike: which of them is where is not known. One that expects a version says
    itself where it wants to stand, be it after a later one; so nobody is in its way but appends that took any version.
    """
    latest: dict[tuple[int, Space], tuple[AppendDone, int]] = {}
    for append in sorted(authors.alone, key=lambda append: (append.client, append.number)):
        place = authors.groups[id(append)].place
        for stream in dict.fromkeys(part.stream for part in append.parts):
            key = (append.client, (append.context, stream))
            before, taken = latest.get(key, (append, 0))
            if place < taken:
                text = f"two appends to {stream!r} stand in the other order than they were submitted in"
                yield Violation(Kind.PIPELINED_ORDER, text, (before, append))
            elif all(part.expected == ANY for part in append.parts if part.stream == stream):
                latest[key] = append, place
