"""Read-index: proof, by a round of heartbeats, that a leader still led after a read had arrived.

A read is answered from state that includes everything committed when it arrived, and only after a majority has
answered a round of heartbeats begun since: none of them had a newer leader then, so nothing newer could have been
committed (Ongaro's thesis, section 6.4). No clock is involved. All reads of one turn share a round. Rounds are
numbered within a term, from 1.
"""

from collections.abc import Collection

from rewind_cluster.quorum import agreed_index

FIRST_ROUND = 1  # 0 in a heartbeat asks for no answer


class ReadRounds:
    """One leader's rounds. `current` is the last one begun."""

    def __init__(self) -> None:
        self.current = FIRST_ROUND
        self._requested = False
        self._confirmed = FIRST_ROUND

    def request(self) -> int:
        """Return the number of the next round to begin, which will be after this call."""
        self._requested = True
        return self.current + 1

    def begin(self) -> bool:
        """Begin the requested round, if there is one, and return whether there was."""
        if not self._requested:
            return False
        self._requested = False
        self.current += 1
        return True

    @property
    def pending(self) -> bool:
        """Whether a round was begun that is not confirmed yet."""
        return self._confirmed < self.current

    def confirm(self, answered: Collection[int]) -> int | None:
        """Return the highest round newly confirmed, given the last round that each voter answered."""
        confirmed = agreed_index(answered)
        if confirmed <= self._confirmed:
            return None
        self._confirmed = confirmed
        return confirmed
