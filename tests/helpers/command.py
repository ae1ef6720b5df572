"""Run a command in this process as `python -m` would: its exit status and what it prints."""

import contextlib
import io
import os
from dataclasses import dataclass
from unittest import mock

from flexres_tune import cli


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def invoke(app, *arguments, env=None) -> Done:
    """Run a Typer app by `cli.main`, so that errors become messages; `env` is added to the environment."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.dict(os.environ, env or {}):
        try:
            cli.main(app, [str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())
