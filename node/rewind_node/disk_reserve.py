"""The part of the disk that appends may not use.

Below it a node refuses appends before anything is sent, so that what it owes already still fits: terms, votes, the
indexes of committed entries, the log of a turn in flight.
"""

import os
from pathlib import Path

DISK_RESERVE_SHARE = 20  # a twentieth of the file system; what is freed by hand in an emergency is of that order
DISK_RESERVE_BYTES_MIN = 8 << 20  # the largest append, or thousands of turns of votes and index rows
DISK_RESERVE_BYTES_MAX = (
    256 << 20
)  # what a busy node writes in seconds; on a large disk more would only be kept from use


class DiskReserve:
    """Free space of the file system that holds a directory, against the reserve."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def free_bytes(self) -> int:
        """Return how much this process may still write."""
        status = os.statvfs(self._path)
        return status.f_bavail * status.f_frsize

    def reserve_bytes(self) -> int:
        """Return the size of the reserve on this file system."""
        status = os.statvfs(self._path)
        share = status.f_blocks * status.f_frsize // DISK_RESERVE_SHARE
        return min(max(share, DISK_RESERVE_BYTES_MIN), DISK_RESERVE_BYTES_MAX)

    def is_breached(self) -> bool:
        """Return whether free space is below the reserve: appends are to be refused."""
        return self.free_bytes() < self.reserve_bytes()

    def is_exhausted(self) -> bool:
        """Return whether three quarters of the reserve are gone: not even what a leader took already is stored now.

        Until then a follower takes it. What is in a leader's log and never committed would stand in the way of all that
        comes after it, a new leader's first entry included, and with it of reads.
        """
        return self.free_bytes() < self.reserve_bytes() // 4
