"""Whatever somebody else wrote, no command hangs, crashes, executes it, or writes outside of its folders.

`FLEXRES_TUNE_ADVERSARY_SECONDS=3600 python -m pytest tests/adversary -m slow -s` attacks for an hour, and
`FLEXRES_TUNE_ADVERSARY_SEED=1` with other attacks. A finding names the variable with which it is repeated.
"""

import os

import pytest

from adversary.families import FAMILIES
from adversary.runner import attack_names, run_attacks

SECONDS = float(os.environ.get("FLEXRES_TUNE_ADVERSARY_SECONDS", 60))
SEED = int(os.environ.get("FLEXRES_TUNE_ADVERSARY_SEED", 0))
ATTACK = os.environ.get("FLEXRES_TUNE_ADVERSARY_ATTACK", "")


def test_one_attack_of_each_family_fails():
    report = run_attacks((f"{SEED}:{family}:0" for family in FAMILIES), seconds=300)
    assert report.num_attacks == len(FAMILIES) and not report.findings, str(report)


@pytest.mark.slow
def test_attacks_of_all_families_fail():
    names = iter([ATTACK]) if ATTACK else attack_names(SEED, list(FAMILIES))
    report = run_attacks(names, SECONDS)
    print(f"seed {SEED}: {report}", flush=True)
    assert not report.findings, str(report)
