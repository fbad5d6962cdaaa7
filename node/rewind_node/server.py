"""One node as a process: identity, files, sockets, admin HTTP and signals around the loop.

Everything that can be refused (a directory or an address in use, a newer format) is tried before the node says a word
to anybody, in the order in which an operator would mend it.
"""

import gc
import os
import random
import secrets
import signal
import uuid

import structlog

from rewind_cluster.cluster_map import NodeInfo
from rewind_cluster.raft_options import RaftOptions
from rewind_node.addresses import split
from rewind_node.admin_link import AdminProcess
from rewind_node.data_directory import DataDirectory
from rewind_node.data_partition import DataPartition
from rewind_node.founding import Plan
from rewind_node.group_report import measure_groups
from rewind_node.loop import Stopping, monotonic_us, run, wall_us
from rewind_node.node import Node
from rewind_node.options import NodeOptions
from rewind_node.store import Store
from rewind_node.transport import Transport

NODE_ID_KEY = "node-id"
GC_ALLOCATIONS = 100_000  # containers made and not freed between two looks for cycles: several turns at full load
GC_GENERATION = 50


def serve(options: NodeOptions) -> int:
    """Run a node until SIGTERM or SIGINT and return the exit code; early ends are raised with their own."""
    log = structlog.get_logger()
    directory = DataDirectory.open(options.data_dir)
    transport = admin = None
    try:
        transport = Transport(options.listen, options.peer_listen)
        admin = AdminProcess(*split(options.http_listen))
        node = _make_node(options, directory, log)
        stopping = Stopping()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(stopping, "requested", True))
        log.info(
            "started",
            id=node.me.id,
            listen=options.listen,
            peer_listen=options.peer_listen,
            http_listen=options.http_listen,
            cluster=node.cluster_id or None,
        )
        # What exists by now lives as long as the process, and a turn makes thousands of objects but no cycles: left at
        # its defaults the collector costs more than a microsecond per append.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS, GC_GENERATION, GC_GENERATION)
        published = admin
        run(node, transport, directory, stopping, lambda: _publish(published, node, directory))
        log.info("stopped")
    finally:
        if transport is not None:
            transport.close()
        if admin is not None:
            admin.close()
        directory.close()
    return 0


def _make_node(options: NodeOptions, directory: DataDirectory, log: structlog.typing.FilteringBoundLogger) -> Node:
    me = NodeInfo(
        _node_id(directory.store),
        options.name,
        options.advertise,
        options.peer_advertise,
        options.http_advertise,
        options.labels,
    )
    source = random.SystemRandom()
    return Node(
        me,
        Plan(tuple(options.seeds), options.partitions, options.replication_factor),
        directory.store,
        RaftOptions(election_timeout_ms=options.election_timeout_ms, heartbeat_ms=options.heartbeat_ms),
        nonce=secrets.token_bytes(16),
        pid=os.getpid(),
        pick=source.randint,
        new_id=lambda: uuid.uuid4().hex,
        log=log,
        now_us=monotonic_us(),
        wall_us=wall_us(),
    )


def _node_id(store: Store) -> str:
    """Return this data directory's node ID, drawn at its first start and durable before anyone hears of it."""
    stored = store.node_value(NODE_ID_KEY)
    if stored is not None:
        return stored.decode()
    node_id = uuid.uuid4().hex
    store.put_node_value(NODE_ID_KEY, node_id.encode())
    store.commit()
    return node_id


def _publish(admin: AdminProcess, node: Node, directory: DataDirectory) -> None:
    metrics = node.metrics
    metrics.clients_connected = len(node.client_protocol)
    metrics.subscriptions = len(node.subscriptions)
    metrics.partitions_led = node.leads
    metrics.storage_free_bytes = directory.reserve.free_bytes()
    metrics.store_bytes = directory.store_bytes()
    metrics.uncommitted_tail_bytes = sum(
        replica.tail_bytes for replica in node.replicas.values() if isinstance(replica, DataPartition)
    )
    measure_groups(node)
    status = node.status()
    admin.publish(
        {
            "ready": status["ready"],
            "reasons": status["reasons"],
            "status": status,
            "metrics": metrics.snapshot(),
        }
    )
