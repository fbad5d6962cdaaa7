"""Logs made by hand, and bits flipped in what is stored, behind a node's back."""

from rewind_cluster.entry import NO_DIGEST, Entry
from rewind_node.lmdb_engine import LmdbEngine


def flip(host, table, key):
    """Flip one bit of a stored value, behind the node's back."""
    value = bytearray(host.engine.get(table, key))
    value[len(value) // 2] ^= 1
    host.engine.put(table, [(key, bytes(value))])
    host.engine.commit()


def on_disk(engine, path):
    """Return an engine on disk that holds what one in memory does."""
    disk = LmdbEngine.open(path, map_bytes=1 << 22)
    for table in engine.tables():
        disk.create_table(table)
        disk.put(table, list(engine.scan(table, b"", b"\xff" * 20)))
    disk.commit()
    return disk


def flip_last_key(host, path, table, bit):
    """Flip one bit of the key of a log's last row on its page, and open the file again."""
    key, value = host.engine.last(table)
    host.engine.close()
    data = (path / "data.mdb").read_bytes()
    bad = (int.from_bytes(key) ^ 1 << bit).to_bytes(len(key))
    assert key + value in data
    (path / "data.mdb").write_bytes(data.replace(key + value, bad + value))
    host.engine = LmdbEngine.open(path, map_bytes=1 << 22)


def chain(*kinds, body=b""):
    """Return entries of these kinds that follow one another, the last of them with a body."""
    entries = []
    digest = NO_DIGEST
    for index, kind in enumerate(kinds, start=1):
        last = body if index == len(kinds) else b""
        entries.append(Entry.build(kind, term=1, index=index, timestamp=index, previous_digest=digest, body=last))
        digest = entries[-1].digest
    return entries
