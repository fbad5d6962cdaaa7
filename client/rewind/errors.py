"""Every error this package raises on purpose.

    RewindError
    ├── InvalidArgument        outside the rules: nothing was sent, or a node refused it for good
    ├── TooLarge               over a named limit
    ├── CrossPartition         the streams of one append live in several partitions; nothing was written
    ├── WrongExpectedVersion   the stream has another version; nothing was written, nor ever will be
    ├── ContextNotFound        the cluster has no context of this name
    ├── AccessDenied           the credentials do not allow it
    ├── Unavailable            not done in time, surely not written: try again     ┐
    ├── Overloaded             refused for load to the last, surely not written    ├ retriable
    ├── StorageFull            refused for want of disk space, surely not written  ┘
    ├── OutcomeUnknown         an append that may or may not have been written
    ├── DeadlineExceeded       a read that got no answer in time: try again        (retriable)
    ├── ProtocolError          a node said something outside the protocol
    └── Closed                 the store has been closed, or belongs to another process

`retriable` says whether the very same call may be made again without a second thought. After `OutcomeUnknown` it may be
where `expected` and the events' IDs are given: the cluster then recognises them.
"""

from typing import ClassVar


class RewindError(Exception):
    """Base of all errors of this package."""

    retriable: ClassVar[bool] = False


class InvalidArgument(RewindError):  # noqa: N818 - the contract's names, here and below
    """An argument is outside its rules. Nothing was written."""


class TooLarge(RewindError):  # noqa: N818
    """Something is over a named limit. Nothing was written."""


class CrossPartition(RewindError):  # noqa: N818
    """The streams of one append live in several partitions. Nothing was written."""


class WrongExpectedVersion(RewindError):  # noqa: N818
    """The stream has version `actual`, not `expected`. Nothing was written, and it never will be."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream = stream
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return (
            f"append to stream {self.stream!r} expected version {self.expected} but it is at {self.actual}: "
            "nothing was written; read what was added since and decide again"
        )


class ContextNotFound(RewindError):  # noqa: N818
    """The cluster has no context of this name."""


class AccessDenied(RewindError):  # noqa: N818
    """The credentials do not allow it."""


class Unavailable(RewindError):  # noqa: N818
    """Not done before the deadline, and surely not written. It is *not* `OutcomeUnknown`: try again."""

    retriable = True


class Overloaded(RewindError):  # noqa: N818
    """Refused for load until the deadline, and surely not written. Try again, more slowly."""

    retriable = True


class StorageFull(RewindError):  # noqa: N818
    """Refused until the deadline because a node's disk is nearly full, and surely not written."""

    retriable = True


class OutcomeUnknown(RewindError):  # noqa: N818
    """The append was sent and no answer came in time: it may have been written, or may yet be."""


class DeadlineExceeded(RewindError):  # noqa: N818
    """A read got no answer before its deadline."""

    retriable = True


class ProtocolError(RewindError):
    """A node said something outside the protocol, or speaks no version of it known here."""


class Closed(RewindError):  # noqa: N818
    """The store has been closed, or was opened by another process."""
