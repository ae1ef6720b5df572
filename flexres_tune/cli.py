"""What all commands share: exit statuses, output formats, the entry point `main`, and the command `flexres-tune`.

`flexres-tune NAME ...` is `python -m flexres_tune.NAME ...`. It imports only the command that was chosen, so that
`--help` and `--dry-run` answer at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.errors import FlexResError
from flexres_tune.text import did_you_mean, escape, mask_secrets

if TYPE_CHECKING:
    import typer

EXIT_FAILED = 1  # the command did its work, and the result is bad: a check failed, a trial diverged
EXIT_USAGE = 2  # an option, a file or the machine does not fit: FlexResError, and what Typer refuses
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells expect; also for SIGTERM and SIGHUP, because scripts need one number
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

COMMANDS = {  # name: (module, what it does)
    "run": ("flexres_tune.run.__main__", "run a sweep; the same command again runs only what is missing"),
    "steer": ("flexres_tune.steer", "stop or prioritise a trial of a running sweep, or let it read its file again"),
    "query": ("flexres_tune.query.__main__", "ask the tables: leaderboard, effects, costs, status, SQL"),
    "report": ("flexres_tune.report.__main__", "write a sweep's report as one HTML file"),
    "train": ("flexres_tune.train", "train one model on this machine, without Ray"),
    "doctor": ("flexres_tune.doctor.__main__", "check whether every node can run a sweep"),
    "export": ("flexres_tune.export.__main__", "write the best model as safetensors and ONNX"),
    "submit": ("flexres_tune.submit.__main__", "run a sweep on a cluster that `ray up` started, and follow it"),
    "bench": ("flexres_tune.bench.__main__", "measure training, the driver and the tables on this machine"),
    "budget": ("flexres_tune.budget", "count a model's parameters; find the widest model under a budget"),
}


class Format(StrEnum):
    """How a command prints or writes a table."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


def main(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit. A FlexResError is printed as its message, without a traceback.

    `arguments` are those of the command line by default. Control characters in a message are spelled out: it may
    quote a file that somebody else wrote, and they could steer the terminal. Passwords in addresses are masked.
    """
    try:
        app(arguments, help_option_names=["-h", "--help"])  # of every command, and of the commands below it
    except FlexResError as error:
        print(escape(mask_secrets(str(error)), keep="\n"), file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # the reader of `| head` is gone, and Typer made 1 of it
            with contextlib.suppress(OSError):  # or Python would complain when it flushes stdout
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(EXIT_BROKEN_PIPE) from None
        raise


def dispatch() -> None:
    """Entry point of the console script and of `python -m flexres_tune`: run the command that the first argument names."""
    program, *arguments = sys.argv
    is_module = Path(program).name == "__main__.py"
    program = "python -m flexres_tune" if is_module else Path(program).name
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(program))
        return
    name, *rest = arguments
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f"; commands: {', '.join(COMMANDS)}"
        print(f"{program}: must be followed by a command, but got {name[:50]!r}{hint}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    # Typer takes the program's name from here; of a module it adds `python -m flexres_tune.`
    sys.argv = [name if is_module else f"{program} {name}", *rest]
    importlib.import_module(COMMANDS[name][0]).main()


def _help(program: str) -> str:
    rows = [f"  {name:<8}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            f"Usage: {program} COMMAND [OPTIONS]",
            "",
            "Which ResNet under a parameter budget, trained how, is best, and how sure are we?",
            "",
            "Commands:",
            *rows,
            "",
            f"{program} COMMAND --help shows its options and examples. python -m flexres_tune.COMMAND does the same.",
        ]
    )
