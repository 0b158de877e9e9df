"""The pure Python peer of the echo service: the same loop as the native one, plain or under TLS 1.3.

python echo.py [CERTIFICATE KEY]
"""

import contextlib
import select
import socket
import ssl
import sys

context = None
if sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(*sys.argv[1:3])
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(f"python: listening on 127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)

poller = select.poll()
poller.register(listener, select.POLLIN)
streams: dict[int, socket.socket] = {}
buffer = bytearray(65536)
view = memoryview(buffer)


def serve_plain(stream: socket.socket) -> bool:
    """Echo what has arrived; False at the end of the connection."""
    count = stream.recv_into(buffer)
    stream.sendall(view[:count])
    return count > 0


def serve_tls(stream: ssl.SSLSocket) -> bool:
    """The same; the handshake is done by the first reads, and never waits."""
    try:
        while count := stream.recv_into(buffer):
            done = 0
            while done < count:
                try:
                    done += stream.send(view[done:count])
                except ssl.SSLWantWriteError:
                    wait = select.poll()
                    wait.register(stream, select.POLLOUT)
                    wait.poll()
            if not stream.pending():
                return True
    except ssl.SSLWantReadError:
        return True
    return False


while True:
    for fd, _ in poller.poll():
        if fd == listener.fileno():
            stream, _ = listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                stream.settimeout(0)
                stream = context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False)
            streams[stream.fileno()] = stream
            poller.register(stream, select.POLLIN)
            continue
        stream = streams[fd]
        try:
            alive = serve_tls(stream) if isinstance(stream, ssl.SSLSocket) else serve_plain(stream)
        except OSError:
            alive = False
        if not alive:
            poller.unregister(fd)
            del streams[fd]
            if isinstance(stream, ssl.SSLSocket):
                with contextlib.suppress(OSError):
                    stream = stream.unwrap()
            stream.close()
