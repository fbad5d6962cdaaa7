"""What a client process says to leaders about consumer groups, overheard where its messages reach its sockets."""

from typing import Any, SupportsIndex

from histories.group_history import GroupSaid
from simulator.overhearing import Eavesdropper

from chaos.journal import Journal
from chaos.work import now_us
from rewind.connections import Work
from rewind.session import Session
from rewind.sockets import Sockets


class _Saying(list[GroupSaid]):
    """What was said, written down at once."""

    def __init__(self, client: int, journal: Journal, first: int) -> None:
        super().__init__()
        self._client = client
        self._journal = journal
        self._first = first

    def append(self, said: GroupSaid) -> None:
        self._journal.said(self._client, self._first + len(self), said)
        super().append(said)

    def __setitem__(self, index: Any, said: Any) -> None:
        assert isinstance(index, SupportsIndex)
        if said is not self[index]:
            self._journal.answered(self._client, self._first + int(index), said)
        super().__setitem__(index, said)


SESSION_SHARE = 10_000_000  # of the numbers of what is said, for each session of a process


def overhear(client: int, journal: Journal) -> None:
    """Write down from now on what this process's sessions say about groups, and the answers."""
    ears: dict[int, Eavesdropper] = {}
    carry_out, received = Sockets.carry_out, Session.received

    def ear(session: Session) -> Eavesdropper:
        if id(session) not in ears:
            saying = _Saying(client, journal, len(ears) * SESSION_SHARE)
            ears[id(session)] = Eavesdropper(saying, now_us, lambda: client)
        return ears[id(session)]

    def carry(sockets: Sockets, work: Work) -> None:
        for address, messages in work.send:
            for frames in messages:
                ear(sockets._session).overhear(address, bytes(frames[0]))
        carry_out(sockets, work)

    def receive(session: Session, address: str, frames: Any, time_us: int) -> None:
        ear(session).overhear(address, bytes(frames[0]))
        received(session, address, frames, time_us)

    Sockets.carry_out = carry  # type: ignore[method-assign] # in a test's own process
    Session.received = receive  # type: ignore[method-assign]
