"""What an operator may ask and do about consumer groups, over all partitions of a context. The command is built on it.

A group is not created: it is there from its first member's first claim, in each partition for itself. What is asked of
a partition in which it was never claimed has no effect there.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rewind import arguments
from rewind.beginning import Now
from rewind.blocking import Store
from rewind.errors import InvalidArgument
from rewind.events import Event
from rewind.group_inquiries import read_event
from rewind.group_operations import (
    Listing,
    ParkedPage,
    delete_group,
    list_groups,
    list_parked,
    replay_parked,
    reset_group,
)
from rewind.requests import Request
from rewind_cluster.groups import GroupRow, MemberRow, ParkedRow

PARKED_PAGE = 100  # that are read at once: a few megabytes at the worst


@dataclass(frozen=True, slots=True)
class GroupState:
    """Where a group stands: a row for each partition in which it has a state, and its members."""

    name: str
    partitions: Mapping[int, GroupRow]
    members: list[MemberRow]

    @property
    def lag(self) -> int:
        """How many events are not settled, where it has a state."""
        return sum(row.lag for row in self.partitions.values())

    def total(self, column: str) -> int:
        """Return the sum of a column."""
        return sum(getattr(row, column) for row in self.partitions.values())


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """A parked event."""

    event: Event
    attempts: int
    reason: str
    replaying: bool


class GroupOperator(Store):
    """A store whose context's groups can be operated.

    Raises `InvalidArgument`, where there is no such group, too; `DeadlineExceeded`; and of what changes something
    `Unavailable` and `OutcomeUnknown`.
    """

    def group_states(self) -> list[GroupState]:
        """Return all groups, by name, without their members."""
        found: dict[str, dict[int, GroupRow]] = {}
        for partition, listing in self._list_groups(None).items():
            for row in listing.groups:
                found.setdefault(row.group, {})[partition] = row
        return [GroupState(name, found[name], []) for name in sorted(found)]

    def group_state(self, name: str) -> GroupState:
        """Return one group."""
        checked = arguments.check_group(name)
        listings = self._list_groups(checked)
        rows = {partition: row for partition, listing in listings.items() for row in listing.groups}
        members = [member for listing in listings.values() for member in listing.members]
        if not rows and not members:
            raise InvalidArgument(f"the context has no group {name!r}: look at `rewind group list`")
        return GroupState(name, rows, members)

    def reset_group(self, name: str, after: str | Now | None) -> bool:
        """Put a group's checkpoint elsewhere, in all partitions; make the group, and return True, if there is none.

        Its members go on from there. Parked events up to there stay parked.
        """
        checked = arguments.check_group(name)
        is_new = not any(listing.groups for listing in self._list_groups(checked).values())
        beginning = self._calls.subscribe(after, None, "", None)
        for partition, newest in self._ask_all(dict(beginning.wanted())).items():
            beginning.take(partition, newest)
        origin, timeout_us = self._calls.origin, self._calls.timeout_us
        self._ask_all(
            {
                partition: reset_group(origin, partition, checked, timeout_us, checkpoint=position)
                for partition, position in beginning.positions().items()
            }
        )
        return is_new

    def delete_group(self, name: str) -> None:
        """Forget a group that has no members."""
        state = self.group_state(name)
        self._ask_all(
            {
                partition: delete_group(self._calls.origin, partition, name, self._calls.timeout_us)
                for partition in state.partitions
            }
        )

    def replay_parked(
        self, name: str, positions: Mapping[int, Collection[int]] | None, *, discard: bool = False
    ) -> int:
        """Have parked events delivered once more, or discard them, and return how many.

        `positions`: which, by partition; None for all. Those that are not parked are passed over.
        """
        state = self.group_state(name)
        wanted = {
            partition: None if positions is None else sorted(positions.get(partition, ()))
            for partition in state.partitions
        }
        origin, timeout_us = self._calls.origin, self._calls.timeout_us
        counts = self._ask_all(
            {
                partition: replay_parked(origin, partition, name, timeout_us, positions=chosen, discard=discard)
                for partition, chosen in wanted.items()
                if chosen is None or chosen
            }
        )
        return sum(counts.values())

    def parked_events(self, name: str) -> Iterator[ParkedEvent]:
        """Yield the parked events, partition by partition, in order."""
        for partition in sorted(self.group_state(name).partitions):
            after, more = 0, True
            while more:
                page = self._parked_page(partition, name, after)
                yield from self._read_parked(partition, page.rows)
                more = page.more and bool(page.rows)
                after = page.rows[-1].position if page.rows else after

    def _parked_page(self, partition: int, name: str, after: int) -> ParkedPage:
        request = list_parked(
            self._calls.origin, partition, name, self._calls.timeout_us, after=after, count_max=PARKED_PAGE
        )
        page: ParkedPage = self._ask_all({partition: request})[partition]
        return page

    def _read_parked(self, partition: int, rows: list[ParkedRow]) -> Iterator[ParkedEvent]:
        requests = {
            row.position: read_event(self._calls.origin, partition, row.position, self._calls.timeout_us)
            for row in rows
        }
        events: dict[int, Event] = self._ask_all(requests)
        for row in rows:
            yield ParkedEvent(events[row.position], row.attempts, row.reason, row.replaying)

    def _list_groups(self, name: str | None) -> dict[int, Listing]:
        origin, timeout_us = self._calls.origin, self._calls.timeout_us
        return self._ask_all(
            {partition: list_groups(origin, partition, name, timeout_us) for partition in self._calls.partitions}
        )

    def _ask_all(self, requests: Mapping[int, Request]) -> dict[int, Any]:
        """Make all requests at once and return their results."""
        self._engine.check_open()
        asked = {key: self._engine.start(request) for key, request in requests.items()}
        return {key: self._engine.wait(future) for key, future in asked.items()}
