"""Whose append each stored one is.

Appends are recognised by their streams and event IDs, in order. An application may append the same IDs again, so
several may look alike; then each stored one needs an author of its own among them, of those that can be it:

* the outcome is OK or unknown, and the contents are equal;
* it stands where the author expected to append, and where it was told that it stands;
* nothing at or beyond its place had been shown before the author began.

An author who was told OK and expected any version must have stored one of its own. One who expected a version may have
been answered with an earlier append of the same IDs. That is a matching in a graph with an edge wherever one can be the
other's author, found with augmenting paths (Kuhn, "The Hungarian Method", 1955).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from histories.history import ANY, AppendDone, Outcome
from histories.logs import StoredAppend, StoredEntry
from histories.stored import Group, Shape, Stored
from histories.timeline import Timeline
from histories.violations import Kind, Violation, short

First = tuple[int, str, tuple[str, ...]]  # context, stream and event IDs of an append's first part
EFFECTIVE = (Outcome.OK, Outcome.UNKNOWN)


class Appends:
    """All appends of a history to one partition, by what they look like."""

    def __init__(self, appends: Iterable[AppendDone]) -> None:
        self.by_shape: dict[tuple[int, Shape], list[AppendDone]] = {}
        self._by_first: dict[First, list[Shape]] = {}
        self._by_event: defaultdict[tuple[int, str], list[AppendDone]] = defaultdict(list)
        for append in sorted(appends, key=lambda append: (append.begun_us, append.client, append.number)):
            shape = tuple((part.stream, tuple([event.id for event in part.events])) for part in append.parts)
            alike = self.by_shape.setdefault((append.context, shape), [])
            if not alike:
                shapes = self._by_first.setdefault((append.context, *shape[0]), [])
                shapes.append(shape)
                shapes.sort(key=len, reverse=True)
            alike.append(append)

    def owners(self, context: int, event_id: str) -> list[AppendDone]:
        """Return the appends that have an event."""
        if not self._by_event:  # asked for only where something is wrong
            for (space, shape), alike in self.by_shape.items():
                for event in {event for _, ids in shape for event in ids}:
                    self._by_event[space, event].extend(alike)
        return self._by_event.get((context, event_id), [])

    def count_parts(self, context: int, appends: Sequence[StoredAppend], start: int) -> int:
        """Return how many stored appends from `start` on are the parts of one: the most that look like it."""
        first = appends[start]
        for shape in self._by_first.get((context, first.stream, first.ids), ()):
            parts = appends[start : start + len(shape)]
            if len(parts) == len(shape) and all(
                part[0] == stream and part.ids == ids and part[6:8] == first[6:8]  # one session, one sequence number
                for part, (stream, ids) in zip(parts, shape, strict=True)
            ):
                return len(shape)
        return 1

    def with_contents(self, entries: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
        """Return entries with the contents that were appended under their IDs, where the log does not tell them."""
        if not any(part.ids and not part.digests for entry in entries for part in entry.appends):
            return entries
        known = {
            event.id: event.digest
            for alike in self.by_shape.values()
            for append in alike
            for part in append.parts
            for event in part.events
        }
        return [
            replace(
                entry,
                appends=tuple(
                    part._replace(digests=tuple(known.get(event_id, "") for event_id in part.ids))
                    for part in entry.appends
                ),
            )
            for entry in entries
        ]


class Authors:
    """The author of each stored append, and what is wrong with those that have none."""

    def __init__(self, appends: Appends, stored: Stored, timeline: Timeline) -> None:
        self.groups: dict[int, Group] = {}  # what each author stored, by `id(author)`
        self.authors: list[AppendDone] = []  # in log order
        self.alone: list[AppendDone] = []  # authors that nobody else looks like
        self.blamed: set[int] = set()  # appends that a violation here names, by `id`
        self.violations: list[Violation] = []
        self._appends = appends
        self._stored = stored
        self._timeline = timeline
        self._places: list[tuple[int, AppendDone]] = []
        by_shape: defaultdict[tuple[int, Shape], list[Group]] = defaultdict(list)
        for group in stored.groups:
            by_shape[group.context, group.shape].append(group)
        for key, groups in by_shape.items():
            alike = appends.by_shape.get(key)
            if alike is None:
                self._report_stranger(groups)
            else:
                self._match(alike, groups)
            if alike is not None and len(alike) == 1:
                self.alone += [append for append in alike if id(append) in self.groups]
        self._check_sessions()
        self._places.sort(key=lambda pair: pair[0])
        self.authors = [author for _, author in self._places]

    def _settle(self, author: AppendDone, group: Group) -> None:
        self.groups[id(author)] = group
        self._places.append((group.place, author))

    # Matching.

    def _match(self, alike: list[AppendDone], groups: list[Group]) -> None:
        left = list(groups)
        authors = [append for append in alike if append.outcome in EFFECTIVE]
        for append in authors:  # these have no choice
            if append.outcome is Outcome.OK and _wants_own(append):
                own = next((group for group in left if could_be(append, group)), None)
                if own is not None:
                    left.remove(own)
                    self._settle(append, own)
        for in_time in (True, False):  # who had not begun yet is an author too, and `Timeline` says what is wrong
            if not left:
                return
            free = [append for append in authors if id(append) not in self.groups and not _must_own(append)]
            left = self._match_free(free, left, in_time=in_time)
        for group in left:
            self._report(alike, group)

    def _match_free(self, free: list[AppendDone], groups: list[Group], *, in_time: bool) -> list[Group]:
        """Give groups their authors, as many as there can be; return those without one."""
        edges = {
            group.place: [
                append
                for append in free
                if could_be(append, group)
                and (not in_time or self._timeline.shown_before(append.begun_us) < group.place)
            ]
            for group in groups
        }
        taken: dict[int, Group] = {}
        for group in groups:
            _augment(group, edges, taken, set())
        for append in free:
            if id(append) in taken:
                self._settle(append, taken[id(append)])
        matched = {group.place for group in taken.values()}
        return [group for group in groups if group.place not in matched]

    # Complaints.

    def _blame(self, kind: Kind, group: Group, text: str, appends: Sequence[AppendDone] = ()) -> None:
        self.blamed.update(map(id, appends))
        parts = ", ".join(f"{part.stream!r} from version {part.first_version} on" for part in group.parts)
        ids = short(event_id for part in group.parts for event_id in part.ids)
        where = f"partition {self._stored.partition}, entry {group.entry}: {parts} ({ids})"
        self.violations.append(Violation(kind, f"{where} {text}", tuple(appends)))

    def _report(self, alike: list[AppendDone], group: Group) -> None:
        """Say why none of those who look like it can have stored a group."""
        same = [append for append in alike if has_contents(append, group)]
        free = [append for append in same if id(append) not in self.groups]
        if not same:
            self._blame(Kind.PHANTOM, group, "has other contents than were appended under these IDs", alike)
        elif any(append.outcome in EFFECTIVE for append in free):
            misled = [append for append in free if append.outcome in EFFECTIVE]
            self._blame(Kind.WRONG_PLACE, group, "stands where its author neither expected nor was told it", misled)
        elif free:
            self._blame(Kind.REFUSED_THEN_APPLIED, group, "was surely not written, as its author was told", free)
        else:
            self._blame(Kind.DUPLICATE, group, "stands there once more than it was appended", same)

    def _report_stranger(self, groups: list[Group]) -> None:
        for group in groups:
            ids = [event_id for part in group.parts for event_id in part.ids]
            owners = list(
                {id(owner): owner for each in ids for owner in self._appends.owners(group.context, each)}.values()
            )
            streams = {part.stream for append in owners for part in append.parts}
            if not owners:
                self._blame(Kind.PHANTOM, group, "was appended by nobody")
            elif group.parts[0].stream not in streams:
                self._blame(Kind.WRONG_PLACE, group, "was appended to another stream", owners)
            else:
                self._blame(Kind.TORN_BATCH, group, "is not the whole of the append it belongs to", owners)

    def _check_sessions(self) -> None:
        seen: dict[tuple[int, int], Group] = {}
        for group in self._stored.groups:
            number = group.parts[0].session, group.parts[0].sequence
            if number[0] and seen.setdefault(number, group) is not group and group.shape == seen[number].shape:
                text = f"is number {number[1]} of session {number[0]}, and so is entry {seen[number].entry}"
                self._blame(Kind.DUPLICATE, group, text)


def _augment(group: Group, edges: dict[int, list[AppendDone]], taken: dict[int, Group], tried: set[int]) -> bool:
    """Find an author for a group, moving others to other authors where that frees one."""
    for append in edges[group.place]:
        if id(append) in tried:
            continue
        tried.add(id(append))
        holder = taken.get(id(append))
        if holder is None or _augment(holder, edges, taken, tried):
            taken[id(append)] = group
            return True
    return False


def _wants_own(append: AppendDone) -> bool:
    return any(part.expected == ANY for part in append.parts)


def _must_own(append: AppendDone) -> bool:
    return append.outcome is Outcome.OK and _wants_own(append)


def has_contents(append: AppendDone, group: Group) -> bool:
    """Return whether a group says what was appended. What the log does not tell is not held against it."""
    return all(
        digest in ("", event.digest)
        for part, stored in zip(append.parts, group.parts, strict=True)
        for event, digest in zip(part.events, stored.digests, strict=False)
    )


def could_be(append: AppendDone, group: Group) -> bool:
    """Return whether a group is what an append of the same shape stores, going by contents, expectation and answer."""
    return (
        has_contents(append, group)
        and all(
            part.expected in (ANY, stored.first_version - 1)
            for part, stored in zip(append.parts, group.parts, strict=True)
        )
        and all(
            place.version == stored.first_version + len(stored.ids) - 1
            for place, stored in zip(append.places, group.parts, strict=False)
        )
    )
