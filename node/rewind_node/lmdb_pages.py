"""Whether an LMDB file that ends before its last page holds every page in use.

LMDB reads its file through a memory map, and a page that is not there ends the process with SIGBUS. A short file alone
is no damage: pages at the end that a transaction took and gave back were never written. So the tree of pages is walked,
by reading the file, from both roots: that of the free pages and that of the tables. LMDB's `mdb.c` documents the form
of a page under "Page structure"; here is what of it leads on.

    page   0 number 8, 10 flags 2, 12 end of the offsets 2, 16 offsets of the nodes, 2 each
    node   0 low 2, 2 high 2, 4 flags 2, 6 length of the key 2, 8 key, data
    meta   a page; 16 magic 4, 40 free pages' table, 88 main table, 144 transaction 8
    table  40 root 8
"""

import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct, error, unpack_from

PAGE_HEADER_BYTES = 16
PAGE_HEAD = Struct("<10xHH")
NODE = Struct("<HHHH")
NUMBER = Struct("<Q")
META_ROOTS = (40 + 40, 88 + 40)
META_TRANSACTION = 144
TABLE_ROOT = 40
NO_PAGE = (1 << 64) - 1
BRANCH = 0x01  # a page's flag: its nodes name pages
LEAF = 0x02  # its nodes hold data
OVERFLOW = 0x01  # a node's flag: its data is on pages of its own
TABLE = 0x02  # its data is a table


def holds_all_pages(file: Path, page_bytes: int) -> bool:
    """Return whether every page that the newest transaction uses lies within the file."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return _Walk(descriptor, page_bytes).ends_well()
    except (error, IndexError):  # a page that is none of LMDB's
        return False
    finally:
        os.close(descriptor)


class _Walk:
    """One walk over the pages in use; `waiting` are those to be read."""

    def __init__(self, descriptor: int, page_bytes: int) -> None:
        self._descriptor = descriptor
        self._page_bytes = page_bytes
        self._page_count = os.fstat(descriptor).st_size // page_bytes

    def ends_well(self) -> bool:
        metas = (self._page(0), self._page(1))
        newest = max(metas, key=lambda meta: NUMBER.unpack_from(meta, META_TRANSACTION))
        waiting = [NUMBER.unpack_from(newest, place)[0] for place in META_ROOTS]
        for _ in range(self._page_count + len(META_ROOTS)):  # more would be a circle
            if not waiting:
                return True
            number = waiting.pop()
            if number == NO_PAGE:
                continue
            if number >= self._page_count:
                return False
            waiting.extend(self._named(self._page(number)))
        return not waiting

    def _page(self, number: int) -> bytes:
        return os.pread(self._descriptor, self._page_bytes, number * self._page_bytes)

    def _named(self, page: bytes) -> Iterator[int]:
        """Yield the pages to which a page leads."""
        flags, end = PAGE_HEAD.unpack_from(page)
        if not flags & (BRANCH | LEAF):
            yield self._page_count  # nothing leads to such a page
            return
        for offset in unpack_from(f"<{(end - PAGE_HEADER_BYTES) // 2}H", page, PAGE_HEADER_BYTES):
            low, high, node_flags, key_bytes = NODE.unpack_from(page, offset)
            data = offset + NODE.size + key_bytes
            if flags & BRANCH:
                yield low | high << 16 | node_flags << 32
            elif node_flags & TABLE:
                yield NUMBER.unpack_from(page, data + TABLE_ROOT)[0]
            elif node_flags & OVERFLOW:
                more_pages = (PAGE_HEADER_BYTES + (low | high << 16) - 1) // self._page_bytes
                last = NUMBER.unpack_from(page, data)[0] + more_pages
                if last >= self._page_count:
                    yield last
