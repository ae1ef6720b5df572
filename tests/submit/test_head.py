"""The head's side of `submit`, called in this process; as a user meets it: test_submit.py."""

import json
import subprocess
import threading

from flexres_tune.submit.head import stop
from flexres_tune.submit.run_folder import RunFolder


def test_run_that_has_just_ended_by_itself_can_be_stopped(tmp_path, capsys):
    """Its process is gone, and its supervisor still has to write the exit status."""
    run = RunFolder(tmp_path, "optim")
    lock = run.acquire()
    run.log.write_text("the last line\n")
    ended = subprocess.Popen(["true"])
    ended.wait()
    (run.folder / "run.json").write_text(json.dumps({"pid": ended.pid}))
    (run.folder / "status").write_text("0\n")
    threading.Timer(0.3, lock.close).start()
    assert stop(run) == 0
    assert not run.is_running()
