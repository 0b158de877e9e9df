"""Sends requests to a Steward and says how long the answers take: `python -m bench.peers.post PORT BODIES OPTIONS...`.

    {"mode": "closed", "connections": 8, "seconds": 2}       each connection sends when it has its answer
    {"mode": "closed", "connections": 8, "count": 1000}      the same, that many
    {"mode": "open", "connections": 64, "seconds": 5, "rate": 200, "seed": 1}

With "open", requests come at times that do not depend on the answers, with exponential gaps; latency counts from the
time at which a request was to be sent, so that one that had to wait for a connection is not forgiven. BODIES is a
pickled list of bodies, sent in turn. Prints one line of JSON: count, seconds, and latencies in ms (p50, p99, most). An
answer with another status than 200 is an error.
"""

from __future__ import annotations

import json
import pickle
import random
import selectors
import socket
import sys
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HEAD = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\nContent-Length: {}\r\n\r\n"
PATIENCE = 30.0


class Connection:
    """One request at a time over one socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self.buffer = b""

    def send(self, message: bytes, begun: float) -> None:
        """Send a request that was due at `begun`."""
        self.begun = begun
        self.buffer = b""
        self.socket.sendall(message)

    def receive(self) -> int:
        """Take what has come: the status once the whole answer is there, 0 before."""
        found = self.socket.recv(65536)
        if not found:
            raise SystemExit("the service closed a connection")
        self.buffer += found
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return 0
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head[9:12]) if len(body) >= length else 0


def main(port: int, bodies: list[bytes], options: dict[str, Any]) -> dict[str, Any]:
    """Send, and sum up."""
    messages = [HEAD.format(len(body)).encode() + body for body in bodies]
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        idle: deque[Connection] = deque()
        for _ in range(options["connections"]):
            connection = Connection(port)
            stack.enter_context(connection.socket)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            idle.append(connection)
        latencies: list[float] = []
        start = time.perf_counter()
        due = schedule(options)
        at = next(due)
        sent = 0
        last = start
        while at is not None or len(idle) < options["connections"]:
            now = time.perf_counter() - start
            while idle and at is not None and at <= now:
                begun = start + at if options["mode"] == "open" else time.perf_counter()
                idle.popleft().send(messages[sent % len(messages)], begun)
                sent += 1
                at = next(due)
                now = time.perf_counter() - start
            wait = PATIENCE if at is None or not idle else max(0.0, at - now)
            ready = selector.select(wait)
            if not ready and time.perf_counter() - last > PATIENCE:
                raise SystemExit(f"no answer in {PATIENCE:.0f} s")
            for key, _ in ready:
                connection = key.data
                if status := connection.receive():
                    if status != 200:
                        raise SystemExit(connection.buffer[:600].decode(errors="replace"))
                    last = time.perf_counter()
                    latencies.append(last - connection.begun)
                    idle.append(connection)
    latencies.sort()
    return {
        "count": len(latencies),
        "seconds": last - start,
        "p50": latencies[len(latencies) // 2] * 1e3,
        "p99": latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] * 1e3,
        "most": latencies[-1] * 1e3,
    }


def schedule(options: dict[str, Any]) -> Any:
    """When requests are due, in seconds from the start; then None for ever."""
    if options["mode"] == "open":
        dice = random.Random(options.get("seed", 1))
        at = 0.0
        while at < options["seconds"]:
            yield at
            at += dice.expovariate(options["rate"])
    elif "count" in options:
        for _ in range(options["count"]):
            yield 0.0
    else:
        end = time.perf_counter() + options["seconds"]
        while time.perf_counter() < end:
            yield 0.0
    while True:
        yield None


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes()), json.loads(sys.argv[3]))))
