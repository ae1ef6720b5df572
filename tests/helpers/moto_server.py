"""moto's S3 server with durable buckets: every change is in the file STATE before its request is answered.

`python tests/helpers/moto_server.py PORT STATE`. moto itself keeps buckets in memory and loses them when it is killed.
"""

import os
import pickle
import sys
import threading
from pathlib import Path

from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

ACCOUNT = "123456789012"  # moto's own


class Durable:
    """A WSGI application that saves the buckets after each request that may change them."""

    def __init__(self, application, state: Path):
        self._application, self._state = application, state
        self._lock = threading.Lock()
        if state.exists():
            s3_backends[ACCOUNT]["aws"].buckets = pickle.loads(state.read_bytes())

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._application(environ, start_response)
        with self._lock:
            answer = list(self._application(environ, start_response))
            temporary = self._state.with_suffix(".tmp")
            temporary.write_bytes(pickle.dumps(s3_backends[ACCOUNT]["aws"].buckets))
            os.replace(temporary, self._state)
            return answer


if __name__ == "__main__":
    application = Durable(DomainDispatcherApplication(create_backend_app), Path(sys.argv[2]))
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
