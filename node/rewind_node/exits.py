"""Why a node's process ends early, each reason with the exit code that operators and scripts rely on.

    NodeExit                      code
    ├── UsageError                   2  an option is missing, wrong or contradicts another
    ├── AddressInUseError            3  another program listens on one of the addresses
    ├── DataDirectoryInUseError      4  another node has the data directory open
    ├── ForeignClusterError          5  the data directory belongs to another cluster
    ├── NewerFormatError             6  the data directory was written by a newer version
    └── StorageFailureError          7  the disk refused to read, write or fsync

A message is one line that says what is wrong and what to do. `rewind_node.cli` prints it; nobody prints a traceback.
"""

INTERNAL_ERROR = 1  # a bug of ours, or an unforeseen refusal of the operating system


class NodeExit(Exception):  # noqa: N818 - an exit, as `SystemExit` is one
    """Base of all reasons to end. `message` is one line for the operator."""

    code: int = INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UsageError(NodeExit):
    """An option is missing, wrong, or contradicts another."""

    code = 2


class AddressInUseError(NodeExit):
    """Another program listens on one of the addresses."""

    code = 3


class DataDirectoryInUseError(NodeExit):
    """Another process has the data directory open. It is *not* damaged."""

    code = 4


class ForeignClusterError(NodeExit):
    """The data directory, or the seeds, belong to another cluster."""

    code = 5


class NewerFormatError(NodeExit):
    """The data directory was written by a newer version. It is *not* damaged."""

    code = 6


class StorageFailureError(NodeExit):
    """The disk refused to read, write or fsync; what was not acknowledged may be lost, nothing else."""

    code = 7
