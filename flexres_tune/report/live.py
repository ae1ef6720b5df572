"""Live report: a server on 127.0.0.1 that renders the page again when the sweep's tables have changed."""

from __future__ import annotations

import hashlib
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flexres_tune.errors import FlexResError, ResultsError, describe_os_error
from flexres_tune.report.data import read_data
from flexres_tune.report.sections import report_html
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.storage import change_marker
from flexres_tune.text import escape_html

HOST = "127.0.0.1"


class LiveReport:
    """The page of a sweep, cached until its tables change."""

    def __init__(self, results: Results, sweep: str):
        self._results, self._sweep = results, sweep
        self._paths = SweepPaths(results.root, sweep)
        self._lock = threading.Lock()  # only one thread renders the page; the others wait for its result
        self._cached: tuple[str, bytes] = ("", b"")  # version, page

    @property
    def version(self) -> str:
        """A hash that changes with a part of a table, a note or a tag, and when the driver starts or ends."""
        digest, paths = hashlib.sha256(), self._paths
        for path in (paths.plan, paths.lock, paths.notes, paths.tags, *map(paths.table, TABLES)):
            try:
                digest.update(f"{path}{change_marker(path)}".encode())
            except OSError:
                digest.update(f"{path}-".encode())
        return digest.hexdigest()[:16]

    def page(self) -> bytes:
        with self._lock:
            version = self.version
            if self._cached[0] != version:
                data = read_data(self._results, self._sweep)
                html = report_html(data, str(self._results.root), version)
                self._cached = (version, html.encode("utf-8", "replace"))
            return self._cached[1]


class LiveServer(ThreadingHTTPServer):
    """A server that is silent about connections that a browser resets, which it does when a page is reloaded."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(results: Results, sweep: str, port: int = 0) -> LiveServer:
    """A server that is bound to `port` (0: any free port) and not running yet.

    Raises:
        ResultsError: the port is in use, or is not permitted.
    """
    report = LiveReport(results, sweep)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # DNS rebinding: a foreign page whose name resolves to 127.0.0.1 sends its own name as Host.
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in (HOST, "localhost"):
                return self.send_error(HTTPStatus.FORBIDDEN)
            if self.path == "/version":
                return self._send(report.version.encode(), "text/plain")
            if self.path != "/":
                return self.send_error(HTTPStatus.NOT_FOUND)
            try:
                self._send(report.page(), "text/html")
            except FlexResError as error:
                self._send(f"<!doctype html><pre>{escape_html(error)}</pre>".encode(), "text/html")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments) -> None:
            """Do not log requests: an open page sends one every two seconds."""

    try:
        return LiveServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise ResultsError(
            f"port {port} on {HOST} cannot be used: {reason}; remove --port to use any free port"
        ) from None
