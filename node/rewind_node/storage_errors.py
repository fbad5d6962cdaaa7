"""What can be wrong with storage itself, and the exit code with which a node says so.

    StorageError
    ├── AppendOrderError         an append that does not continue its table; nothing was written
    ├── StorageFailedError       the disk or the file system failed; nobody may be answered, the process ends
    │   └── StorageFullError     the same because the disk is full
    ├── DataDirectoryInUseError  another process holds the data directory
    └── NewerFormatError         a newer version of the program wrote the data

Bytes that are there but wrong are `rewind_cluster.errors.DamagedError`: that replica is repaired and the node goes on.
"""

from typing import ClassVar


class StorageError(Exception):
    """Base of all errors of storage. `exit_code` is the process's when the error ends it."""

    exit_code: ClassVar[int] = 7


class AppendOrderError(StorageError):
    """Appended keys do not lie beyond the table's last in ascending order. It is *not* a failure of the disk."""


class StorageFailedError(StorageError):
    """The disk or the file system failed. What was not committed is lost, and a later commit must not be trusted."""


class StorageFullError(StorageFailedError):
    """The disk is full. It is *not* the full memory map, which grows by itself."""


class DataDirectoryInUseError(StorageError):
    """Another process holds the lock of the data directory."""

    exit_code = 4


class NewerFormatError(StorageError):
    """The data was written in a format this program does not know. It is *not* damage: nothing was touched."""

    exit_code = 6
