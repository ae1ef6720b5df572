"""A laptop and a head without a network: a fake `ray` command, whose head is a folder of this machine."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Prints what Ray prints, runs scripts with the head's home, exits with 1 on any failure, ends lines as a terminal does
RAY = """#!{python}
import json, os, subprocess, sys
with open({lab!r} + "/calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if not os.path.isdir({home!r}):
    sys.exit("RuntimeError: Head node of cluster (flexres-tune) not found!")
verb, file, *rest = sys.argv[1:]
environment = os.environ | {{"HOME": {home!r}}}
place = lambda path: path.replace("~", {home!r}, 1)
print("Loaded cached provider configuration\\nFetched IP: 10.0.0.1", flush=True)
if verb == "exec":
    command = ["bash", "-c", f"export OMP_NUM_THREADS=1 && ({{rest[0]}})"]
    process = subprocess.Popen(command, cwd={home!r}, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in process.stdout:
        os.write(1, line.replace(b"\\n", b"\\r\\n"))
    sys.exit(min(process.wait(), 1))
source, target = map(place, rest)
sys.exit(min(subprocess.run(["cp", source, target]).returncode, 1))
"""

# Replaces the last lines of `run` in the tree that is sent: prints its arguments, and waits for the file `go`
RUN = """
import os, sys, time
from pathlib import Path
print("arguments:", sys.argv[1:])
print("environment:", {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "COLUMNS", "FLEXRES_TUNE_GIT_COMMIT")})
print("trial 1 of 2, für Käthe")
try:
    while not Path.home().joinpath("go").exists():
        time.sleep(0.05)
except KeyboardInterrupt:
    print("interrupted")
    raise SystemExit(130)
print("trial 2 of 2")
raise SystemExit(3)
"""

SWEEP = "name: täglich\nbase: {dataset: digits, model: tiny, epochs: 1}\nparameters: {lr: {values: [0.1]}}\n"


class Lab:
    """A working tree with a fake `run`, a cluster file, and the home of a head."""

    def __init__(self, folder: Path):
        self.folder, self.home, self.tree = folder, folder / "köpf home", folder / "my work"
        self.home.mkdir()
        for name in ("flexres_tune", "sweeps"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        run = self.tree / "flexres_tune/run/__main__.py"
        source, found, _ = run.read_text().partition('if __name__ == "__main__":')
        assert found
        run.write_text(f"{source}{found}{RUN.replace(chr(10), chr(10) + '    ')}\n")
        self.sweep = self.tree / "sweeps/jeden Tag.yaml"
        self.sweep.write_text(SWEEP)
        self.storage = folder / "shared results"
        self.file = folder / "cluster.yaml"
        self.write_file(f"{{python: {sys.executable}, storage: {self.storage}}}")
        (folder / "bin").mkdir()
        (folder / "bin/ray").write_text(RAY.format(python=sys.executable, lab=str(folder), home=str(self.home)))
        (folder / "bin/ray").chmod(0o755)

    def write_file(self, block):
        self.file.write_text(f"cluster_name: flexres-tune\nprovider:\n  type: aws\n  flexres_tune: {block}\n")

    def start(self, *options, sweep=None):
        """Start `submit` as a process that can receive signals."""
        command = [sys.executable, "-m", "flexres_tune.submit", str(self.file), str(sweep or self.sweep), *options]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            command,
            cwd=self.tree,
            env=os.environ | {"PATH": path, "COLUMNS": "117"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, *options, sweep=None):
        """Run `submit`: (exit status, output)."""
        process = self.start(*options, sweep=sweep)
        output, _ = process.communicate(timeout=90)
        return process.returncode, output

    def submit_until(self, text, *options):
        """Start `submit` and read until a line has the text: (process, output so far)."""
        process, lines = self.start(*options), []
        for line in process.stdout:
            lines.append(line)
            if text in line:
                return process, "".join(lines)
        raise AssertionError("".join(lines))

    def rest(self, process):
        """The rest of its output; communicate() would lose what submit_until() has buffered."""
        watchdog = threading.Timer(90, process.kill)  # read() has no timeout
        watchdog.start()
        output = process.stdout.read()
        process.wait()
        watchdog.cancel()
        process.stdout.close()
        return output

    def let_go(self):
        """Let the run end, and wait until it has."""
        (self.home / "go").touch()
        end = time.monotonic() + 90
        while not list(self.home.glob(".flexres_tune/*/status")):
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.home.mkdir(exist_ok=True)
    (lab.home / "go").touch()  # ends a run that a failed test has left
