"""A live report on 127.0.0.1: made anew when the sweep's tables changed, for this machine's own browser only."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flexres_tune.errors import FlexResError, ResultsError, describe_os_error
from flexres_tune.report.data import read_data
from flexres_tune.report.sections import report_html
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.storage import change_marker
from flexres_tune.text import escape as spell_out

HOST = "127.0.0.1"


class LiveReport:
    """The page of a sweep and the version of the tables it was made from."""

    def __init__(self, results: Results, sweep: str):
        self._results, self._sweep = results, sweep
        self._paths = SweepPaths(results.root, sweep)
        self._lock = threading.Lock()  # one page is made at a time; the other readers wait for it
        self._made: tuple[str, bytes] = ("", b"")

    @property
    def version(self) -> str:
        """Changes when a part is written or the driver ends."""
        seen = hashlib.sha256()
        places = [self._paths.plan, self._paths.lock, *(self._paths.table(name) for name in TABLES)]
        for place in places:
            try:
                seen.update(f"{place}{change_marker(place)}".encode())
            except OSError:
                seen.update(f"{place}-".encode())
        return seen.hexdigest()[:16]

    def page(self) -> bytes:
        with self._lock:
            version = self.version
            if self._made[0] != version:
                data = read_data(self._results, self._sweep)
                html = report_html(data, str(self._results.root), version)
                self._made = (version, html.encode("utf-8", "replace"))
            return self._made[1]


def make_server(results: Results, sweep: str, port: int = 0) -> ThreadingHTTPServer:
    """A server that is not running yet; `port` 0 takes a free one.

    Raises:
        ResultsError: the port is taken.
    """
    live = LiveReport(results, sweep)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in (HOST, "localhost"):
                return self.send_error(HTTPStatus.FORBIDDEN)  # a page elsewhere that had its name point to here
            if self.path == "/version":
                return self._send(live.version.encode(), "text/plain")
            if self.path != "/":
                return self.send_error(HTTPStatus.NOT_FOUND)
            try:
                self._send(live.page(), "text/html")
            except FlexResError as error:
                self._send(f"<!doctype html><pre>{escape(spell_out(str(error)))}</pre>".encode(), "text/html")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a reader that has left
                self.wfile.write(body)

        def log_message(self, *arguments) -> None:
            """A request every two seconds is no news."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise ResultsError(f"port {port} of {HOST} cannot be used: {reason}; leave --port out for a free one") from None
