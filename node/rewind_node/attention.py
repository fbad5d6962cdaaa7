"""What of a status an operator should look at: for `rewind status` and the dashboard, which show the same."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LAG_MAX = 10_000  # entries a replica may be behind before that is worth a line

Row = Mapping[str, Any]


def attention(nodes: Sequence[Row], partitions: Sequence[Row]) -> list[str]:
    """Return a line for each thing that is not as it should be, worst first: none if all is well."""
    lines = [
        f"partition {row['partition']} has no leader: it takes no appends until a majority of its replicas is up"
        for row in partitions
        if row["leader"] is None
    ]
    for row in partitions:
        lines.extend(_of_replicas(row))
    lines += [f"node {row['name']} at {row['address']} is {row['state']}" for row in nodes if row["state"] != "up"]
    lines += [f"node {row['name']}: {reason}" for row in nodes for reason in row["reasons"] or ()]
    return lines


def _of_replicas(row: Row) -> Iterator[str]:
    number, commit = row["partition"], row["commit"]
    for replica in row["replicas"]:
        if replica["role"] == "quarantined":
            yield f"partition {number}: the replica on {replica['node']} is quarantined and waits for repair"
        elif replica["match"] is not None and commit - replica["match"] > LAG_MAX:
            behind = commit - replica["match"]
            yield f"partition {number}: the replica on {replica['node']} is {behind:,} entries behind"
