"""The load generator for machines where `native/load.c` cannot be built; the same arguments and the same answers.

python load.py echo|churn|hold PORT SIZE CONNECTIONS [SECONDS PIDS] [--tls]

It is slower than the services that it drives, so ratios come out too near to 1: reports say when it was used.
"""

import json
import selectors
import socket
import ssl
import sys
import time
from dataclasses import dataclass

WARM_UP = 0.2


@dataclass
class Connection:
    """One connection and how far its current message has come."""

    stream: socket.socket
    begun: float
    ready: bool
    out: int = 0
    back: int = 0


class Load:
    """Opens connections to one port and sends messages of one size over them."""

    def __init__(self, port: int, size: int, tls: bool) -> None:
        self.port = port
        self.message = bytes((i * 131 + i // 251) % 256 for i in range(size))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if tls else None
        if self.context:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
            self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.latencies: list[float] = []

    def open(self) -> Connection:
        begun = time.monotonic()
        stream = socket.create_connection(("127.0.0.1", self.port))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.settimeout(0)
        if self.context:
            stream = self.context.wrap_socket(stream, do_handshake_on_connect=False)
        return Connection(stream, begun, ready=self.context is None)

    def shake(self, c: Connection) -> bool:
        """Go on with the handshake; True when it is done, or was not needed."""
        try:
            if not c.ready and isinstance(c.stream, ssl.SSLSocket):
                c.stream.do_handshake()
            c.ready = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return c.ready

    def advance(self, c: Connection) -> bool:
        """Move what can be moved now; True when the message has come back whole."""
        while self.shake(c):
            progress = 0
            try:
                if c.out < len(self.message):
                    progress = c.stream.send(memoryview(self.message)[c.out :])
                    c.out += progress
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            try:
                data = c.stream.recv(262144)
                if not data or data != self.message[c.back : c.back + len(data)]:
                    sys.exit("load: what came back is not what was sent")
                c.back += len(data)
                progress += len(data)
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            if c.back == len(self.message):
                self.latencies.append(time.monotonic() - c.begun)
                return True
            if not progress:
                return False
        return False

    def run(self, connections: int, duration: float, churn: bool) -> None:
        """Keep `connections` messages in flight; churn: on a new connection each."""
        selector = selectors.DefaultSelector()
        start, count, counting = time.monotonic() + WARM_UP, 0, False
        end = start + duration
        fresh = [self.open() for _ in range(connections)]
        while (moment := time.monotonic()) < end:
            if not counting and moment >= start:
                counting, start, count = True, moment, 0
                self.latencies.clear()
            for c in fresh:
                selector.register(c.stream, selectors.EVENT_READ, c)
            active, fresh = fresh, []
            active += [key.data for key, _ in selector.select(0 if active else 1)]
            for c in active:
                while self.advance(c):
                    count += 1
                    if churn:
                        selector.unregister(c.stream)
                        c.stream.close()
                        fresh.append(self.open())
                        break
                    c.out = c.back = 0
                    c.begun = time.monotonic()
        self.report(count, time.monotonic() - start)

    def hold(self, connections: int) -> None:
        """Open all, echo one message on each in turn, keep them until stdin ends."""
        opened = [self.open() for _ in range(connections)]
        for c in opened:
            while not self.shake(c):
                time.sleep(0.0005)
        began = time.monotonic()
        for c in opened:
            c.begun = time.monotonic()
            while c.back < len(self.message) and not self.advance(c):
                pass
        self.report(connections, time.monotonic() - began)
        sys.stdin.read()

    def report(self, count: int, elapsed: float) -> None:
        lat = sorted(self.latencies) or [-1e-6]
        p50, p99 = (round(lat[len(lat) * part // 100] * 1e6, 1) for part in (50, 99))
        print(json.dumps({"count": count, "seconds": elapsed, "cpu": -1, "p50_us": p50, "p99_us": p99}), flush=True)


def main(arguments: list[str]) -> None:
    tls = "--tls" in arguments
    mode, port, size, connections, *rest = [word for word in arguments if word != "--tls"]
    load = Load(int(port), int(size), tls)
    if mode == "hold":
        load.hold(int(connections))
    else:
        load.run(int(connections), float(rest[0]), churn=mode == "churn")


if __name__ == "__main__":
    main(sys.argv[1:])
