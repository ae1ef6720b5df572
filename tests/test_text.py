"""Words, numbers and quoted text of messages."""

import pytest

from flexres_tune.text import did_you_mean, escape, excerpt, format_bytes, format_duration, join_words, plural, shorten


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (303, "5 min 03 s"),
        (3599.9, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (4e6, "1,111 h 07 min"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_counts_and_choices_are_worded():
    assert [plural(count, "trial") for count in (0, 1, 2, 1234)] == ["0 trials", "1 trial", "2 trials", "1,234 trials"]
    assert [join_words(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1610612736, "1.5 GiB"), (2**50, "1024.0 TiB")]
)
def test_bytes(count, text):
    assert format_bytes(count) == text


def test_control_characters_are_spelled_out_and_letters_kept():
    assert escape("größe 实验 a\x1b[2J\u202e\n\ud800\x85\u2028") == r"größe 实验 a\x1b[2J\u202e\n\ud800\x85\u2028"
    assert escape("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("width", range(1, 12))
def test_shortened_text_keeps_both_ends(width):
    short = shorten("abcdefghij", width)
    assert len(short) == min(width, 10)
    if 3 <= width < 10:
        assert short[0] == "a" and short[-1] == "j" and "…" in short


def test_character_that_only_looks_like_a_space_is_visible():
    assert escape("lr\xa0") == r"lr\xa0"


def test_excerpt_is_short_and_printable():
    assert excerpt("a\x1b" + "b" * 100, 10) == r"a\x1bbbb…bbbb"


@pytest.mark.parametrize(
    ("name", "hint"), [("optimiser", "; did you mean optimizer?"), ("xyzzy", ""), ("", ""), ("o" * 10_000, ""), (3, "")]
)
def test_closest_known_name_is_suggested(name, hint):
    assert did_you_mean(name, ["optimizer", "model"]) == hint
