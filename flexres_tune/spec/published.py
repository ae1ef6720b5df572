"""The published reports whose tables a sweep can reproduce, as literal rows: `reproduces: flexres/optimizer`.

Their result rows are data of `results/`; only the names stand here, because a sweep file is checked against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flexres_tune.spec.document import show
from flexres_tune.text import did_you_mean


@dataclass(frozen=True)
class Report:
    """A published report on CIFAR-10 ResNets under 5,000,000 parameters."""

    title: str
    selected_on: str  # what chose the epoch whose accuracies it prints
    experiments: tuple[str, ...]  # its tables


REPORTS: Mapping[str, Report] = MappingProxyType(
    {
        "flexres": Report(
            "FlexRes: Flexible ResNet with Reduced Parameters",
            "best epoch on the test set",
            ("best", "long", "mixup", "optimizer", "lr", "batch_size", "net"),
        ),
        "mini_project": Report("Mini-Project: Residual Nets", "not stated", ("best",)),
        "modified_resnet": Report(
            "Modifying ResNet on Image Classification",
            "best epoch on validation images",
            (
                *("best", "augmentation", "lr_wd", "batch_size", "optimizer", "blocks", "channels", "kernel", "pool"),
                *("layers", "long"),
            ),
        ),
    }
)

REFERENCES: tuple[str, ...] = tuple(
    f"{name}/{table}" for name, report in REPORTS.items() for table in report.experiments
)


def reference_problem(value: object) -> str | None:
    """What is wrong with the value of `reproduces`; None where it names a published table."""
    if value in REFERENCES:
        return None
    way_out = did_you_mean(value, REFERENCES) if isinstance(value, str) else ""
    return (
        f"must be a published table, REPORT/EXPERIMENT, but got {show(value)}"
        f"{way_out or '; tables: ' + ', '.join(REFERENCES)}"
    )


def describe_reference(reference: str) -> str:
    """One line on a published table: report's title, table, and what its numbers were selected on."""
    name, _, experiment = reference.partition("/")
    report = REPORTS[name]
    return f'table "{experiment}" of "{report.title}" (its numbers: {report.selected_on})'
