"""The live page, which is served on this machine only and rendered again when the tables change; and the index."""

import http.client
import socket
import struct
import threading
import urllib.error
import urllib.request

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.report.files import write_index
from flexres_tune.report.live import LiveReport, make_server
from flexres_tune.results.tags import add_tag
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def server(fill):
    with make_server(fill(), "demo") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server, path, host=None):
    url = f"http://127.0.0.1:{server.server_address[1]}{path}"
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def test_page_has_the_version_of_the_tables(server, paths, make_config, make_trial):
    version = get(server, "/version")
    assert f'data-version="{version}"' in get(server, "/")[:200]
    config = make_config(seed=77)
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config), config)
    assert get(server, "/version") != version
    version = get(server, "/version")
    add_tag(paths, config.trial_id, "odd")
    assert get(server, "/version") != version


def test_server_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "host", "status"), [("/../plan.json", None, 404), ("/report.html", None, 404), ("/", "evil.example", 403)]
)
def test_nothing_else_is_served(server, path, host, status):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(server, path, host)
    assert error.value.code == status


def test_connections_that_are_reset_print_nothing(server, capfd):
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for sent in (b"", request[:10], request, b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") * 10:
        connection = socket.create_connection(server.server_address)
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset
    assert get(server, "/version")
    server.server_close()  # waits for the threads of all requests
    assert capfd.readouterr().err == ""


def test_error_of_the_server_itself_is_printed(server, capfd, monkeypatch):
    def fails(report):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(LiveReport, "page", fails)
    with pytest.raises((urllib.error.URLError, ConnectionError, http.client.RemoteDisconnected)):
        get(server, "/")
    assert "a defect" in capfd.readouterr().err


def test_port_in_use_is_refused_with_what_to_do(server, fill):
    port = server.server_address[1]
    with pytest.raises(ResultsError, match=f"port {port} .*remove --port"):
        make_server(fill(), "demo", port)


def test_index_has_the_question_the_answer_and_a_link(fill, paths):
    index = write_index(fill(hostile="<b>")).read_text()
    assert 'href="demo/report.html"' in index
    assert "Which rate? &lt;b&gt;" in index
    assert "validation accuracy" in index
    assert "small and tiny on digits, 9 epochs, 36 trials" in index
    assert paths.report.exists()
    assert "<b>" not in index
