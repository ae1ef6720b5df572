"""`python -m flexres_tune.submit` as a user types it; the head is a folder of this machine."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flexres_tune.submit import __main__ as submit
from flexres_tune.submit.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
SWEEP = "name: x\nbase: {dataset: digits, model: tiny, epochs: 1}\nparameters: {lr: {values: [0.1]}}\n"


def test_run_is_followed_to_its_end_and_its_exit_status_returned(lab):
    (lab.home / "go").touch()
    status, output = lab.submit("--profile", "none", "--set", "base.epochs=2")
    assert status == 3, output
    lines = output.splitlines()
    (arguments,) = [line.removeprefix("arguments: ") for line in lines if line.startswith("arguments: ")]
    assert ast.literal_eval(arguments) == [
        "sweeps/jeden Tag.yaml",
        *("--storage", str(lab.storage), "--address", "auto"),
        *("--profile", "none", "--set", "base.epochs=2"),
    ]
    assert "'RAY_AUTH_MODE': 'token', 'COLUMNS': '117'" in output
    assert lines[-2:] == ["trial 1 of 2, für Käthe", "trial 2 of 2"]
    assert "Fetched IP" not in output, "lines of Ray itself are not shown"
    tree = RunFolder(lab.home, "täglich").tree
    assert (tree / "sweeps/jeden Tag.yaml").read_text() == lab.sweep.read_text()
    assert not list(lab.home.glob(".*.zip")), "the archive is removed once it is unpacked"
    calls = [json.loads(line) for line in (lab.folder / "calls").read_text().splitlines()]
    assert [call[:2] for call in calls] == [["rsync-up", str(lab.file)], ["exec", str(lab.file)]], "Ray's own commands"


def test_code_on_the_head_is_exactly_what_was_sent_last(lab):
    (lab.home / "go").touch()
    extra = lab.tree / "flexres_tune/extra.py"
    extra.write_text('"""One."""')
    assert lab.submit()[0] == 3
    extra.unlink()
    assert lab.submit()[0] == 3
    assert not (RunFolder(lab.home, "täglich").tree / "flexres_tune/extra.py").exists()


def test_ctrl_c_detaches_and_attach_follows_again(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    process.send_signal(signal.SIGINT)
    output = lab.rest(process)
    assert process.returncode == 130
    assert "detached: the run continues" in output
    assert "--attach" in output and "--stop" in output
    assert RunFolder(lab.home, "täglich").is_running()

    status, output = lab.submit()
    assert status == 2
    assert "täglich is already running on this cluster, since 20" in output
    assert "--attach" in output

    process, seen = lab.submit_until("trial 1 of 2", "--attach", "--last", "1")
    assert "arguments" not in seen
    lab.let_go()
    output = lab.rest(process)
    assert (process.returncode, output) == (3, "trial 2 of 2\n")

    status, output = lab.submit("--attach")
    assert status == 3, "it works after the end, too"
    assert [line.split(":")[0] for line in output.splitlines()] == [
        "arguments",
        "environment",
        "trial 1 of 2, für Käthe",
        "trial 2 of 2",
    ]


def test_run_continues_when_the_laptop_is_killed(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    process.kill()
    process.communicate()
    lab.let_go()
    assert RunFolder(lab.home, "täglich").read_status() == 3


def test_stop_interrupts_the_run(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    status, output = lab.submit("--stop")
    assert (status, output) == (0, "interrupted\n")
    assert process.wait(timeout=90) == 130, "a client that follows it sees how it ended"
    process.stdout.close()
    status, output = lab.submit("--stop")
    assert (status, output) == (2, "täglich is not running on this cluster\n")


def test_run_whose_processes_were_killed_has_no_exit_status(lab):
    process, _ = lab.submit_until("trial 1 of 2")
    run = RunFolder(lab.home, "täglich")
    pid = run.read_record()["pid"]
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    output = lab.rest(process)
    assert process.returncode == 1
    assert "has no exit status" in output


def test_sweep_file_of_another_folder_replaces_none_of_the_tree(lab):
    (lab.home / "go").touch()
    elsewhere = lab.folder / "optim.yaml"
    elsewhere.write_text(lab.sweep.read_text())
    status, output = lab.submit(sweep=elsewhere)
    assert status == 3
    assert "['submitted/optim.yaml', " in output
    tree = RunFolder(lab.home, "täglich").tree
    assert (tree / "sweeps/optim.yaml").read_text() == (lab.tree / "sweeps/optim.yaml").read_text()


def test_password_in_a_git_remote_leaves_this_machine_in_no_way(lab):
    """`https://user:token@host/repo` is common; the run gets the commit of the tree, and nothing else of git."""
    secret = "c4n4ry-t0ken"

    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=lab.tree, check=True, capture_output=True)

    git("init", "-q")
    git("remote", "add", "origin", f"https://me:{secret}@example.com/repo.git")
    git("config", "user.password", secret)
    git("add", "flexres_tune/__init__.py")
    git("-c", "user.name=me", "-c", "user.email=me@example.com", "commit", "-q", "-m", f"see https://me:{secret}@x.org")
    (lab.home / "go").touch()
    status, output = lab.submit()
    assert status == 3, output
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=lab.tree, capture_output=True, text=True).stdout.strip()
    assert f"'FLEXRES_TUNE_GIT_COMMIT': '{commit}" in output
    assert secret not in output
    everything = [lab.folder / "calls", *lab.home.rglob("*"), *lab.storage.rglob("*")]
    assert not [path for path in everything if path.is_file() and secret.encode() in path.read_bytes()]


def test_tables_are_fetched(lab):
    trials = lab.storage / "täglich/trials"
    trials.mkdir(parents=True)
    (trials / "part-00000001-00000001.parquet").write_bytes(b"rows")
    (lab.storage / "täglich/checkpoints").mkdir()
    (lab.storage / "täglich/checkpoints/a.pt").write_bytes(b"weights")
    status, output = lab.submit("--fetch")
    assert status == 0, output
    assert "results/täglich: 1 file; next: python -m flexres_tune.query leaderboard --sweep 'täglich'" in output
    assert (lab.tree / "results/täglich/trials/part-00000001-00000001.parquet").read_bytes() == b"rows"
    status, output = lab.submit("--fetch", "--checkpoints", "--into", "my results")
    assert status == 0, output
    assert (lab.tree / "my results/täglich/checkpoints/a.pt").read_bytes() == b"weights"
    assert [path.name for path in lab.home.rglob("*") if path.is_file()] == [], "no temporary file is left on the head"


def test_attach_to_a_run_that_was_never_submitted(lab):
    status, output = lab.submit("--attach")
    assert (status, output) == (2, "täglich was never submitted to cluster flexres-tune from this account\n")


def test_fetch_without_tables_names_the_folder(lab):
    status, output = lab.submit("--fetch")
    assert status == 2
    assert f"{lab.storage}/täglich: has no tables of sweep täglich yet" in output


def test_cluster_that_is_not_up_is_named_with_the_command_to_start_it(lab):
    lab.home.rmdir()
    status, output = lab.submit()
    assert status == 2
    assert "cluster flexres-tune must be up, but is not; start it with: ray up -y " in output
    assert "Traceback" not in output


def test_dry_run_needs_no_cluster_and_shows_what_its_workers_cost(lab):
    lab.home.rmdir()
    prices = "head_usd_per_hour: 0.22, worker_usd_per_hour: 1.34"
    lab.write_file(f"{{python: {sys.executable}, storage: s3://b/results, {prices}}}\nmax_workers: 8")
    (lab.tree / "flexres_tune/run/__main__.py").write_text((ROOT / "flexres_tune/run/__main__.py").read_text())
    status, output = lab.submit("--dry-run")
    assert status == 0, output
    assert "cost: 8 workers x 1.34 USD + a head at 0.22 USD = 10.94 USD per hour" in output
    assert not (lab.folder / "calls").exists()


def test_missing_python_is_named(lab):
    status, output = lab.submit("--python", "~/no such/python")
    assert status == 2
    assert "~/no such/python: must be a Python on the head" in output


@pytest.mark.parametrize(
    "options, message",
    [
        (["--profil", "none"], "No such option"),
        (["--max-concurrent", "0"], "--max-concurrent"),
        (["--profile", "gpux"], "gpux"),
        (["--local"], "--local would train on the head alone"),
        (["--address", "10.0.0.1:6379"], "--address must be that of the head"),
        (
            ["--storage", "results"],
            "--storage: must be a path that begins with / or ~/, s3:// or gs://, but got 'results'",
        ),
        (["--attach", "--fetch"], "--attach and --fetch exclude each other"),
        (["--attach", "--profile", "none"], "--attach takes no options of run, but got --profile none"),
        (["--last", "3"], "--last needs --attach"),
        (["--into", "x"], "need --fetch"),
        (["--yes"], "--yes needs --prepare or --destroy"),
        (["--prepare"], "--prepare takes no sweep file, but got"),
        (["--prepare", "--fetch"], "--prepare and --fetch exclude each other"),
        (["--python", "python3"], "--python: must be a path that begins with / or ~/"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_named_before_anything_is_sent(refused, options, message):
    assert message in refused(SWEEP, *options)


def test_sweep_file_is_checked_before_anything_is_sent(refused):
    errors = refused("name: x\nmetod: grid\nparameters: {lr: {values: []}}\n")
    assert "x.yaml:2: metod: " in errors
    assert "x.yaml:3: parameters.lr" in errors


def test_cluster_file_is_checked_before_anything_is_sent(refused):
    (Path.cwd() / "c.yaml").write_text("name: optim\n")
    assert "c.yaml: must be a file for `ray up`" in refused(SWEEP)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """The error of `submit` about a sweep file and options; in this process, which is faster, and without Ray."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr("flexres_tune.submit.ray_exec.subprocess", None)
    block = "{python: /venv/bin/python, storage: /mnt/results}"
    Path("c.yaml").write_text(f"cluster_name: c\nprovider: {{type: aws, flexres_tune: {block}}}\n")

    def refused(sweep, *options):
        Path("x.yaml").write_text(sweep)
        monkeypatch.setattr(sys, "argv", ["submit", "c.yaml", "x.yaml", *options])
        with pytest.raises(SystemExit) as end:
            submit.main()
        assert end.value.code == 2
        return capsys.readouterr().err

    return refused
