"""What can be wrong with what others hand us.

    ClusterError
    ├── InvalidArgumentError   a name, number or text outside its rules: the caller's mistake
    │   └── TooLargeError      within the rules but over a named limit
    ├── NotLeaderError         this replica does not lead, or is handing over: ask another one
    ├── ChangeRefusedError     a membership change must wait for the one, or the commit, before it
    ├── ProtocolError          a frame that does not follow the protocol: the peer's mistake
    └── DamagedError           stored bytes that fail their checksum or contradict each other

Our own bugs are `assert`s, never one of these.
"""


class ClusterError(Exception):
    """Base of all errors of this package."""


class InvalidArgumentError(ClusterError):
    """A name, number or text is outside its rules."""


class TooLargeError(InvalidArgumentError):
    """Something is over a named limit."""


class NotLeaderError(ClusterError):
    """This replica does not lead its partition, or is handing the lead over. Nothing was written."""


class ChangeRefusedError(ClusterError):
    """A membership change cannot be proposed yet; it may be retried. It is *not* wrong in itself."""


class ProtocolError(ClusterError):
    """A frame does not follow the protocol. It is *not* damage on disk."""


class DamagedError(ClusterError):
    """Bytes fail their checksum, or contradict what is stored beside them. It is *not* a peer's mistake."""
