"""Bugs that show only with real processes, disks and sockets, each with the faults that bring it to light.

They are planted as `planted.plant` has it, in the processes of nodes or of clients, before these begin.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from planted.plant import Change, Plant, planted

from rewind.inbox import Inbox
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.loop import turn
from rewind_node.node import Node
from rewind_node.peer_protocol import PeerProtocol
from rewind_node.peers import Peers
from rewind_node.replica import Replica

NODE_PROGRAM = (sys.executable, "-P", str(Path(__file__).with_name("node_program.py")))


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug and how to find it: by faults of these kinds, each with its begin and its duration, on a seed."""

    plant: Plant
    seed: int
    course: tuple[tuple[float, str, float], ...]
    in_clients: bool = False


def _bug(name: str, what: str, why: str, promise: int, changes: tuple[Change, ...]) -> Plant:
    return Plant(name, what, why, promise, (), changes)


BUGS = (
    Bug(
        _bug(
            "commit without sync",
            "LMDB is opened without syncs",
            "what was acknowledged is in the kernel's memory alone, and gone with the power",
            1,
            (
                Change(
                    LmdbEngine.open.__func__,  # type: ignore[attr-defined] # the function of a class method
                    """
                    - path, map_size=map_bytes, mode=FILE_MODE, sync=True, metasync=True, writemap=False
                    + path, map_size=map_bytes, mode=FILE_MODE, sync=False, metasync=False, writemap=False
                    """,
                ),
            ),
        ),
        2,
        ((10.0, "power cut of all", 1.0),),
    ),
    Bug(
        _bug(
            "meta page not synced",
            "LMDB syncs the data of a commit, and not the page that makes it count",
            "the last commit before a power cut is gone",
            1,
            (
                Change(
                    LmdbEngine.open.__func__,  # type: ignore[attr-defined]
                    """
                    - path, map_size=map_bytes, mode=FILE_MODE, sync=True, metasync=True, writemap=False
                    + path, map_size=map_bytes, mode=FILE_MODE, sync=True, metasync=False, writemap=False
                    """,
                ),
            ),
        ),
        2,
        ((10.0, "power cut of all", 1.0), (20.0, "power cut of all", 1.0), (30.0, "power cut of all", 1.0)),
    ),
    Bug(
        _bug(
            "append out of order not noticed",
            "a log's tail is replaced by appending, and that LMDB takes none of it is not noticed",
            "`put(append=True)` skips what is out of order without an exception",
            9,
            (
                Change(
                    LmdbEngine._append,
                    """
                    - check_append(table, cursor.key() if cursor.last() else b"", items)
                    - _, added = cursor.putmulti(items, append=True)
                    - if added != len(items):
                    -     raise StorageFailedError(
                    -         f"{table} in {self._path} took {added} of {len(items)} appended keys; check the disk"
                    -     )
                    - return added
                    + cursor.putmulti(items, append=True)
                    + return len(items)
                    """,
                ),
                Change(
                    Replica.persist,
                    """
                    - self.store.truncate(self.partition, output.truncate_from)
                    + pass
                    """,
                ),
            ),
        ),
        3,
        ((4.0, "isolation", 4.0), (14.0, "isolation", 4.0), (24.0, "kill -9 of all", 1.0)),
    ),
    Bug(
        _bug(
            "reader held open",
            "a reading transaction is begun with the first commit and never ended",
            "no page is used again: the file grows with every commit, until the disk is full",
            10,
            (
                Change(
                    LmdbEngine._commit,
                    """
                      self._transaction.commit()
                    + self._reader = getattr(self, "_reader", None) or self._environment.begin()
                    """,
                ),
            ),
        ),
        1,
        ((3.0, "client paused", 12.0),),
    ),
    Bug(
        _bug(
            "hello outlives its peer",
            "a node that has welcomed us counts as welcoming us for good",
            "after its restart it knows us no more, and takes nothing",
            9,
            (
                Change(
                    Peers.down,
                    """
                    - self._forget(link)
                    """,
                ),
                Change(
                    Node.link_up,
                    """
                    - self.peer_protocol.hello(link)
                    + if link.node is None:
                    +     self.peer_protocol.hello(link)
                    """,
                ),
                Change(
                    PeerProtocol._hello_required,
                    """
                    - self.hello(link)
                    + return
                    """,
                ),
            ),
        ),
        1,
        ((5.0, "kill -9 of one", 1.0),),
    ),
    Bug(
        _bug(
            "reply sent before the commit",
            "what waits for the disk is sent before it",
            "what was acknowledged is gone with the process",
            1,
            (
                Change(
                    turn,
                    """
                    + node.committed()
                    + _send_peers(node, transport)
                    + _send_clients(node, transport)
                      if must_commit:
                    """,
                ),
            ),
        ),
        1307,
        (
            *((5.0, "syncs delayed", 4.0), (8.0, "kill -9 of all", 1.0), (8.1, "isolation", 5.0)),
            *((18.0, "syncs delayed", 4.0), (21.0, "kill -9 of all", 1.0), (21.1, "isolation", 5.0)),
            *((31.0, "syncs delayed", 4.0), (34.0, "kill -9 of all", 1.0), (34.1, "isolation", 5.0)),
        ),
    ),
    Bug(
        _bug(
            "failed commit taken for done",
            "a commit that the disk refused is taken for one that it made",
            "what was acknowledged on it is not stored",
            1,
            (
                Change(
                    turn,
                    """
                    - store.commit()
                    + from rewind_node.storage_errors import StorageFailedError
                    + try:
                    +     store.commit()
                    + except StorageFailedError:
                    +     store.engine._journal.clear()
                    +     store.engine._begin()
                    """,
                ),
            ),
        ),
        1,
        ((6.0, "sync fails", 5.0), (14.0, "kill -9 of all", 1.0)),
    ),
    Bug(
        _bug(
            "full queue dropped silently",
            "what comes for a subscriber that has eight ranges waiting is dropped, and the next is taken",
            "a slow or paused consumer misses events",
            7,
            (
                Change(
                    Inbox.put,
                    """
                    - if self.ended:
                    + if self.ended or len(self._queue) >= 8:
                    """,
                ),
            ),
        ),
        1,
        ((4.0, "client paused", 8.0),),
        in_clients=True,
    ),
)
PLANTS = {bug.plant.name: bug for bug in BUGS}


def program_with(name: str) -> tuple[str, ...]:
    """Return the command of a node that has a bug."""
    return (*NODE_PROGRAM, name)


@contextmanager
def having(name: str) -> Iterator[None]:
    """Have a bug in this process, or none where the name is empty."""
    if not name:
        yield
        return
    with planted(PLANTS[name].plant):
        yield
