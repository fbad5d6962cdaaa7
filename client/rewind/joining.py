"""Becoming a member of a consumer group: where a new group begins, and who the member is."""

from dataclasses import dataclass
from os import getpid, urandom
from socket import gethostname

from rewind.beginning import Beginning
from rewind.group_inquiries import Membership
from rewind.rows import Filter
from rewind.tokens import Origin
from rewind_cluster.groups import LABEL_CHARACTERS_MAX, MEMBER_BYTES


@dataclass(frozen=True, slots=True)
class Joining:
    """What it takes to become a member. `beginning` is answered first: it says where a new group begins."""

    origin: Origin
    group: str
    coordinator: int
    max_attempts: int
    wanted: Filter
    beginning: Beginning

    def membership(self) -> Membership:
        """Return a membership, as a member that never was before."""
        label = f"{gethostname()}:{getpid()}"[:LABEL_CHARACTERS_MAX]
        starts = self.beginning.positions()
        return Membership(
            self.origin,
            self.group,
            urandom(MEMBER_BYTES),
            label,
            self.coordinator,
            starts,
            self.wanted,
            self.max_attempts,
        )
