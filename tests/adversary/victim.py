"""Victim: a process that runs one attack after another, `python -m adversary.victim FOLDER HANG_S` in tests/.

It reads names of attacks from stdin, `SEED:FAMILY:NUMBER`, one per line, and answers each with a line of JSON. All
commands are imported once, so an attack takes milliseconds. If a call hangs, faulthandler prints where and ends it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

from adversary.attack import Call, Place
from adversary.families import FAMILIES, KNOWN
from adversary.oracle import HANG_S, Outcome, Watch, judge
from adversary.template import make_template
from flexres_tune import cli
from flexres_tune.errors import FlexResError
from flexres_tune.text import escape

MEMORY_LIMIT_BYTES = 4 << 30  # of addresses, beyond what is mapped after the imports: a runaway must not hurt others
PROCESS_SHARE = 0.004  # of commands also run as a process of their own, which takes a second
IMPORTED = ("query", "report", "export", "run", "submit", "budget", "train")


class Victim:
    """Runs attacks in places below `scratch`."""

    def __init__(self, scratch: Path, hang_s: float = HANG_S):
        self._scratch, self._hang_s = scratch, hang_s
        self._template = scratch / "template"
        self._fence = scratch / "fence"  # the parent of every place: nothing else may appear here
        self._watch = Watch((str(self._fence / "place"), *(str(scratch / name) for name in ("home", "tmp"))))
        for folder in (self._template, self._fence, scratch / "home", scratch / "tmp"):
            folder.mkdir()
        os.environ |= {"HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp")}
        os.environ |= {"XDG_CACHE_HOME": str(scratch / "home" / "cache"), "COLUMNS": "120"}
        make_template(self._template)
        for name in IMPORTED:
            importlib.import_module(cli.COMMANDS[name][0])
        self._watch.install()

    def attack(self, name: str) -> dict:
        """{"calls": number, "findings": [[label, text], ...]} of one attack."""
        family = name.split(":")[1]
        chance = random.Random(name)
        place = Place(self._fence / "place")
        shutil.copytree(self._template, place.folder)
        os.chdir(place.folder)
        calls, findings = 0, []
        try:
            for call in (FAMILIES | KNOWN)[family](chance, place):
                calls += 1
                as_process = bool(call.argv) and chance.random() < PROCESS_SHARE
                outcome = run_as_process(call) if as_process else self._run(call)
                findings += [[call.label, text, outcome.error] for text in judge(call, outcome)]
        finally:
            os.chdir(self._scratch)
            shutil.rmtree(place.folder)
        if left := os.listdir(self._fence):
            findings.append([family, f"leaves {left} next to its folder", ""])
            for each in left:
                shutil.rmtree(self._fence / each, ignore_errors=True)
        return {"calls": calls, "findings": findings}

    def _run(self, call: Call) -> Outcome:
        out, err, status, error = _stream("strict"), _stream("backslashreplace"), 0, ""
        before = _reset_peak()
        self._watch.events.clear()
        faulthandler.dump_traceback_later(self._hang_s, exit=True)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                self._watch.is_on = True
                try:
                    call.run()
                except FlexResError as refusal:
                    status = refusal.exit_status
                    print(escape(str(refusal), keep="\n"), file=sys.stderr)
                except SystemExit as end:
                    status = end.code or 0
                except BaseException:
                    error = traceback.format_exc()
        finally:
            self._watch.is_on = False
            faulthandler.cancel_dump_traceback_later()
        events = tuple(dict.fromkeys(self._watch.events))
        return Outcome(status, _content(out), _content(err), error, _peak() - before, events)


def run_as_process(call: Call) -> Outcome:
    """The same command as `python -m` would run it."""
    command = [sys.executable, "-m", *call.argv]
    done = subprocess.run(command, capture_output=True, timeout=2 * HANG_S, stdin=subprocess.DEVNULL)
    return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _stream(errors: str) -> io.TextIOWrapper:
    """A stream like stdout (strict) or stderr (backslashreplace) that keeps what is written."""
    return io.TextIOWrapper(io.BytesIO(), "utf-8", errors, newline="\n")


def _content(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()


def _reset_peak() -> int:
    """Set this process's peak memory to what it uses now; returns it, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_LIMIT_BYTES,) * 2)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # what C code prints goes to stderr, which is a file
    os.dup2(2, 1)
    faulthandler.enable()
    victim = Victim(Path(sys.argv[1]), float(sys.argv[2]))
    _limit_memory()
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(victim.attack(line.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
