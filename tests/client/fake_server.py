"""The fake cluster behind real sockets: one thread, one ROUTER per node on a loopback address."""

import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import zmq

TURN_MS = 20


class FakeServer:
    """Serves a fake cluster until it is closed. `do` runs a function on the serving thread, between messages."""

    def __init__(self, fake_cluster: ModuleType, nodes: int = 3, partitions: int = 4) -> None:
        self._context = zmq.Context()
        self._routers = [self._context.socket(zmq.ROUTER) for _ in range(nodes)]
        ports = [router.bind_to_random_port("tcp://127.0.0.1") for router in self._routers]
        self.addresses = [f"127.0.0.1:{port}" for port in ports]
        self.cluster = fake_cluster.FakeCluster(self.addresses, partitions)
        self._work: list[tuple[Callable[[], Any], threading.Event]] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def do(self, function: Callable[[], Any]) -> None:
        """Run a function on the serving thread and send what it returns, as `FakeCluster.elect` does."""
        done = threading.Event()
        self._work.append((function, done))
        assert done.wait(10)

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        for router in self._routers:
            router.close(0)
        self._context.term()

    def _run(self) -> None:
        poller = zmq.Poller()
        for router in self._routers:
            poller.register(router, zmq.POLLIN)
        while not self._stop:
            for router, _ in poller.poll(TURN_MS):
                self._serve(router)
            self._push(self.cluster.pushes(time.monotonic_ns() // 1000))
            while self._work:
                function, done = self._work.pop(0)
                self._push(function() or [])
                done.set()

    def _push(self, news: Any) -> None:
        for node, route, frames in news:
            self._routers[self.cluster.nodes.index(node)].send_multipart([route, *frames])

    def _serve(self, router: Any) -> None:
        node = self.cluster.nodes[self._routers.index(router)]
        now_us = time.monotonic_ns() // 1000
        while True:
            try:
                route, *frames = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if node.up:
                for to, answer in node.handle(route, frames, now_us):
                    router.send_multipart([to, *answer])
