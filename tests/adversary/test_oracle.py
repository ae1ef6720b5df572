"""The oracle finds each kind of offence, in the process in which attacks run."""

import pytest

from adversary.families import KNOWN
from adversary.known import OFFENCES
from adversary.runner import run_attacks


@pytest.mark.slow  # a minute: a victim that was ended is replaced by a new one
def test_each_known_offence_is_found():
    names = iter([f"0:{name}:0" for name in KNOWN])
    report = run_attacks(names, 600, hang_s=10)
    found = [finding.text for findings in report.findings.values() for finding in findings]
    for text in OFFENCES:
        assert any(each.startswith(text.strip()) for each in found), f"{text} is not in {found}"
    assert report.num_attacks == len(OFFENCES) and report.num_calls > len(OFFENCES) - 3
