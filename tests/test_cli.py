"""What all commands share: errors as messages, exit statuses, and the command `flexres-tune`."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from helpers.command import invoke

from flexres_tune import cli
from flexres_tune.errors import DataError

CLEAR_SCREEN = "\x1b[2J"
REVERSED = "\u202e"  # text after it is shown from right to left


def fails_with(error):
    app = typer.Typer()

    @app.command()
    def command():
        raise error

    return app


def test_error_is_its_message_on_stderr_with_its_status():
    done = invoke(fails_with(DataError("x.parquet: row 3: must be an image, but is not; write it again")))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "x.parquet: row 3: must be an image, but is not; write it again\n"


def test_control_characters_of_an_error_are_spelled_out_and_its_lines_kept():
    done = invoke(fails_with(DataError(f"a{CLEAR_SCREEN}\nb")))
    assert done.stderr == "a\\x1b[2J\nb\n"


def test_programming_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        invoke(fails_with(ZeroDivisionError()))


def test_ctrl_c_is_status_130():
    assert invoke(fails_with(KeyboardInterrupt())).exit_code == cli.EXIT_INTERRUPTED == 130


def test_closed_pipe_is_silent_and_status_141():
    code = "import typer; from flexres_tune import cli; app = typer.Typer()\n"
    code += "@app.command()\ndef command(): print('x' * 10_000_000)\ncli.main(app)"
    command = f'"{sys.executable}" -c "$CODE" | head -c 1; echo " ${{PIPESTATUS[0]}}"'
    environment = {"CODE": code, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("x 141\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model", "tiny", "--dataset", f"parquet:/none{REVERSED}"],
        ["budget", "--blocks", "3", "--block", f"basic{REVERSED}"],
        ["bench", "train", "--model", f"tiny{REVERSED}"],
        ["run", f"none{REVERSED}.yaml"],
        ["query", "leaderboard", "--results", f"none{REVERSED}"],
        ["report", "--results", f"none{REVERSED}"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_error_of_a_command_cannot_steer_the_terminal(arguments):
    name, *rest = arguments
    done = invoke(importlib.import_module(cli.COMMANDS[name][0]).app, *rest)
    assert done.exit_code == 2
    assert REVERSED not in done.stderr and r"\u202e" in done.stderr


def dispatch(capsys, monkeypatch, *arguments):
    """(exit status, stdout, stderr) of the console script."""
    monkeypatch.setattr(sys, "argv", ["/venv/bin/flexres-tune", *arguments])
    code = 0
    try:
        cli.dispatch()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_in_one_line(capsys, monkeypatch, arguments):
    code, out, _ = dispatch(capsys, monkeypatch, *arguments)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert all(sum(line[:1] == [name] for line in lines) == 1 for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_subcommand_is_the_module_of_that_name(capsys, monkeypatch, name):
    code, out, _ = dispatch(capsys, monkeypatch, name, "--help")
    assert code == 0
    assert f"flexres-tune {name}" in out.replace("\n", " ")
    assert cli.COMMANDS[name][0].removesuffix(".__main__") == f"flexres_tune.{name}"


def test_the_package_itself_is_the_same_command():
    def answer(*arguments):
        words = [sys.executable, "-m", "flexres_tune", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, cwd=Path(cli.__file__).parents[1])
        return done.returncode, done.stdout + done.stderr

    assert answer()[0] == 0 and "Usage: python -m flexres_tune COMMAND" in answer()[1]
    assert "Usage: python -m flexres_tune.budget " in answer("budget", "--help")[1]
    assert answer("budgte")[0] == 2 and "did you mean budget?" in answer("budgte")[1]


def test_every_command_of_the_package_is_a_subcommand():
    package = Path(cli.__file__).parent
    rooms = {path.parent.name for path in package.glob("*/__main__.py")}
    files = {path.stem for path in package.glob("*.py") if "cli.main(app)" in path.read_text()}
    assert set(cli.COMMANDS) == rooms | files


def test_unknown_subcommand_is_named_with_the_nearest_one(capsys, monkeypatch):
    code, _, err = dispatch(capsys, monkeypatch, "qurey")
    assert (code, err) == (2, "flexres-tune: must be followed by a command, but got 'qurey'; did you mean query?\n")


def test_only_the_chosen_command_is_imported():
    code = "import sys; from flexres_tune.cli import dispatch; sys.argv = ['flexres-tune', '--help']; dispatch()\n"
    code += "assert not {'typer', 'torch', 'ray', 'pyarrow', 'pydantic'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_answers_to_h_as_to_help(name):
    app = importlib.import_module(cli.COMMANDS[name][0]).app
    short, long = invoke(app, "-h"), invoke(app, "--help")
    assert short.exit_code == 0 and short.stdout == long.stdout and "Usage" in short.stdout
