"""Tables that fit a terminal."""

import io

import pyarrow as pa
import pytest
from rich.console import Console

from flexres_tune.display.render import Section, print_section

SENTENCE = "number 3 of 3 at epoch 2, with 18.0 %: those with at least 34.7 % continue"
TABLE = pa.table({"optimizer": ["adamw"], "epoch": [2], "reason": [SENTENCE], "trial_id": ["8246f9510492-0"]})


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_sentence_is_whole_at_any_width_and_other_columns_make_room_for_it(width):
    file = io.StringIO()
    section = Section(TABLE, least_important=("trial_id", "epoch"), sentences="reason")
    print_section(section, Console(file=file, width=width))
    head, rule, *body = file.getvalue().splitlines()
    lines = [line for line in body if not line.startswith("left out")]
    start, end = head.index("reason"), head.find("trial id")
    assert " ".join(line[start : end if end > 0 else None].strip() for line in lines) == SENTENCE
    assert len(rule) <= width and ("trial id" in head) == (width >= 120)
    assert lines[0].lstrip().startswith("adamw"), "the configuration stands beside the first line of its reason"
