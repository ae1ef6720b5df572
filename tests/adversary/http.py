"""Attacks on `report --watch`: requests that no browser sends."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator

from adversary.attack import CANARY, Call, Place
from flexres_tune.report.live import make_server
from flexres_tune.results import open_results

METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "DELETE", "CONNECT", "get", "", "\0", "A" * 70_000)
PATHS = (
    *("/", "/version", "/../plan.json", "/%2e%2e/plan.json", "//", "/report.html", "*", "", "http://evil/", "/?x=1"),
    *("/" + "a" * 70_000, "/\r\nSet-Cookie: a=b", "/\x00", f"/<script>{CANARY}()</script>", "/etc/passwd", "/é"),
)
HOSTS = ("127.0.0.1:{port}", "localhost:{port}", "evil.example", "127.0.0.1.evil.example", "", "[::1]", "a" * 70_000)
TIMEOUT_S = 20.0


def send_requests(chance: random.Random, place: Place) -> Iterator[Call]:
    """Odd requests, reset and idle connections; afterwards the page is still served, and to its own hosts alone."""
    with make_server(open_results(place.results), "gamma") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        port = server.server_address[1]
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        try:
            for _ in range(3):
                yield Call("send requests", lambda: [_send(port, *_request(chance, port)) for _ in range(20)])
            yield Call("ask for the page", lambda: _check_page(port))
        finally:
            for connection in idle:
                connection.close()
            server.shutdown()
            thread.join()


def _request(chance: random.Random, port: int) -> tuple[bytes, str, str]:
    """(bytes to send, how the connection ends, what the answer must not be)."""
    host = chance.choice(HOSTS).format(port=port)
    version = chance.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/9.9", "HTTP/x", ""])
    headers = [f"Host: {host}"] * chance.choice([0, 1, 1, 1, 2])
    headers += chance.choice([[], ["Content-Length: -1"], ["X: " + "a" * 70_000], ["x"] * 200, ["Host : evil"]])
    line = " ".join(filter(None, (chance.choice(METHODS), chance.choice(PATHS), version)))
    data = "\r\n".join([line, *headers, "Connection: close", "", ""]).encode("utf-8", "replace")
    if chance.random() < 0.15:
        data = chance.randbytes(chance.choice([1, 100, 5_000]))
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)]
    ours = bool(headers) and host.rsplit(":", 1)[0] in ("127.0.0.1", "localhost")
    return data, chance.choice(["read", "read", "close", "reset"]), "" if ours else " 200 "


def _send(port: int, data: bytes, ending: str, forbidden: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        try:
            connection.sendall(data)
            if ending == "read":
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(1 << 16)
                assert not forbidden or forbidden.encode() not in answer[:30], f"{data[:200]!r} got {answer[:80]!r}"
        except TimeoutError:
            raise
        except OSError:  # refused by the server, which may close before it has read everything
            return
        if ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _check_page(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"GET /version HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = connection.recv(1 << 16)
    assert answer.split(b"\r\n")[0].endswith(b"200 OK"), answer[:200]
