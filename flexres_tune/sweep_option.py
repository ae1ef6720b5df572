"""CommandOfSweep: a command with the option --sweep, which says so to a sweep's name without it."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from flexres_tune.errors import FlexResError


class CommandOfSweep(TyperCommand):
    """A command that answers `report optim` with `--sweep optim`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As of any command, but words that are no arguments are refused here.

        Raises:
            FlexResError: there are such words.
        """
        ctx.allow_extra_args = True  # otherwise they would be refused without a hint
        rest = super().parse_args(ctx, args)
        if rest:
            shown = " ".join(rest)[:100]
            raise FlexResError(
                f"{ctx.command_path}: must have no further word, but got {shown!r}; a sweep is named by --sweep: "
                f"--sweep {rest[0][:50]}"
            )
        return rest
