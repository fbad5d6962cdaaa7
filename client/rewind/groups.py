"""The consumer groups that a session is a member of."""

from collections.abc import Callable

from rewind.errors import RewindError
from rewind.feeds import Feeds
from rewind.group_desk import Desk
from rewind.group_inquiries import Membership
from rewind.group_member import Member
from rewind.requests import Request


class Groups:
    """The members of a session. `ask` begins a request."""

    def __init__(self, feeds: Feeds, random: Callable[[], float], ask: Callable[[Request, int], None]) -> None:
        self._feeds = feeds
        self._random = random
        self._ask = ask
        self._members: dict[Desk, Member] = {}

    def join(self, who: Membership, desk: Desk, _: int) -> None:
        """Become a member of a group."""
        self._members[desk] = Member(who, desk, self._feeds, self._random, self._ask)

    def leave(self, desk: Desk, now_us: int) -> None:
        """Begin to leave: the desk is told when that is done."""
        member = self._members.get(desk)
        if member is not None:
            member.leave(now_us)

    def forget(self, desk: Desk, _: int) -> None:
        """Leave at once, whatever was not told; the cluster finds out by itself."""
        member = self._members.get(desk)
        if member is not None:
            member.end(None)

    def end_all(self, error: Callable[[str], RewindError]) -> None:
        """End all memberships with an error, made from what they are."""
        for member in self._members.values():
            member.end(error(f"group {member.group!r}"))

    def look(self, now_us: int) -> None:
        """Do what is due."""
        for desk, member in list(self._members.items()):
            if member.is_forgotten:
                del self._members[desk]
            elif not member.gone and member.due_us <= now_us:
                member.look(now_us)

    def next_look_us(self) -> int | None:
        """Return when `look` is due."""
        return min((member.due_us for member in self._members.values() if not member.gone), default=None)

    def answered(self, request: Request) -> bool:
        """Take in the end of a request, and return whether it was one of a member's."""
        return any(member.answered(request) for member in self._members.values())
