"""How many appends one store may have under way: past it a caller waits, so that no queue grows with the load."""

from collections.abc import Iterable

from rewind.append import Append
from rewind.errors import Overloaded
from rewind.requests import Call

APPENDS_MAX = 16_384  # 16 partitions with a full window each
APPEND_BYTES_MAX = 64 * 1024 * 1024  # one append may be of 8 MiB


class Room:
    """Counts the appends under way. Not safe between threads: the blocking store holds a lock."""

    def __init__(self) -> None:
        self._appends = 0
        self._bytes = 0

    def is_free(self) -> bool:
        """Whether one more append may begin."""
        return self._appends < APPENDS_MAX and self._bytes < APPEND_BYTES_MAX

    def enter(self, append: Append) -> None:
        """Count an append that begins."""
        self._appends += 1
        self._bytes += append.size

    def leave(self, ended: Iterable[Call]) -> bool:
        """Take off the appends among the calls that ended, and return whether there were any."""
        any_left = False
        for call in ended:
            if type(call) is Append:
                self._appends -= 1
                self._bytes -= call.size
                any_left = True
        return any_left

    def overloaded(self, append: Append) -> Overloaded:
        """Return the error of an append that found no room in time."""
        return Overloaded(
            f"{append.what()}: {self._appends} appends of {self._bytes} bytes are under way in this store, which is "
            "the limit; nothing was written: try again, more slowly"
        )
