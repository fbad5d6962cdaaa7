"""What every node holds, as `rewind-node dump` tells it, and the promises that it must keep.

The log of a partition is the truth: its order is that of the writes. Each `check_…` returns what contradicts a promise,
a line each, so that a failing test names all of it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from append_load import History

Place = tuple[str, int]  # stream and version


@dataclass(slots=True)
class StoredLog:
    """One replica's log."""

    state: dict[str, Any] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    @property
    def applied(self) -> int:
        return int(self.state.get("applied", 0))

    def events(self) -> Iterator[tuple[int, Place, str]]:
        """Yield each event's entry, place and ID, in log order."""
        for entry in self.entries:
            for append in entry["appends"]:
                for number, event_id in enumerate(append["ids"]):
                    yield entry["index"], (append["stream"], append["version"] + number), event_id


class StoredLogs:
    """The logs of all nodes of a stopped cluster, by node and partition."""

    def __init__(self) -> None:
        self.logs: dict[str, dict[int, StoredLog]] = {}
        self.damage: list[str] = []

    def read(self, node: str, lines: Iterable[bytes]) -> None:
        """Take in the dump of one node."""
        logs = self.logs[node] = {}
        for text in filter(bytes.strip, lines):
            line = json.loads(text)
            if line["kind"] == "damage":
                self.damage.append(f"{node}: {line}")
                continue
            log = logs.setdefault(line["partition"], StoredLog())
            if line["kind"] == "state":
                log.state = line
            else:
                log.entries.append(line)

    def check(self, history: History, copies: int | None = None) -> list[str]:
        """Return all that contradicts what a replicated log promises and what clients were told.

        `copies`: on how many nodes each acknowledged event must stand, on all of them if not given.
        """
        return [
            *self.damage,
            *self._check_order(),
            *self._check_agreement(),
            *self._check_streams(),
            *self.check_acknowledged(history, copies=len(self.logs) if copies is None else copies),
            *self._check_refused(history),
        ]

    def check_acknowledged(self, history: History, copies: int) -> list[str]:
        """Return the acknowledged events that stand in their places on fewer than so many nodes."""
        stored = [
            {event_id: place for log in logs.values() for _, place, event_id in log.events()}
            for logs in self.logs.values()
        ]
        complaints = []
        for event_id, place in history.acknowledged.items():
            holders = sum(places.get(event_id) == place for places in stored)
            if holders < copies:
                complaints.append(f"acknowledged {place} stands in its place on {holders} nodes, not {copies}")
        return complaints

    def _check_order(self) -> Iterator[str]:
        for node, logs in self.logs.items():
            for partition, log in logs.items():
                indexes = [entry["index"] for entry in log.entries]
                terms = [entry["term"] for entry in log.entries]
                if indexes != list(range(1, log.state["last"] + 1)):
                    yield f"{node}, partition {partition}: the log has holes"
                if terms != sorted(terms):
                    yield f"{node}, partition {partition}: terms go back"

    def _check_agreement(self) -> Iterator[str]:
        for partition in sorted({partition for logs in self.logs.values() for partition in logs}):
            replicas = {node: logs[partition] for node, logs in self.logs.items() if partition in logs}
            common = min(log.applied for log in replicas.values())
            for place in range(common):
                digests = {node: log.entries[place]["digest"] for node, log in replicas.items()}
                if len(set(digests.values())) > 1:
                    yield f"partition {partition}, entry {place + 1} differs: {digests}"

    def _check_streams(self) -> Iterator[str]:
        for node, logs in self.logs.items():
            seen: dict[str, Place] = {}
            for log in logs.values():
                versions: dict[str, int] = {}
                for index, (stream, version), event_id in log.events():
                    if version != versions.get(stream, 0) + 1:
                        yield f"{node}: entry {index} goes on with {stream!r} at {version} after {versions.get(stream)}"
                    versions[stream] = version
                    if event_id in seen:
                        yield f"{node}: event {event_id} stands at {seen[event_id]} and again at {(stream, version)}"
                    seen[event_id] = (stream, version)

    def _check_refused(self, history: History) -> Iterator[str]:
        for node, logs in self.logs.items():
            for log in logs.values():
                for index, place, event_id in log.events():
                    if event_id in history.refused:
                        yield f"{node}: entry {index} holds {place}, which was refused: {history.refused[event_id]}"
