"""Words, numbers and quoted text of messages."""

import time

import pytest

from flexres_tune.text import (
    did_you_mean,
    escape,
    escape_html,
    excerpt,
    format_bytes,
    format_duration,
    join_words,
    last_line,
    mask_secrets,
    number_range,
    plural,
    plural_range,
    shorten,
)


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
    assert [plural_range(counts, "seed") for counts in ([1], [3, 3], [5, 2])] == ["1 seed", "3 seeds", "2 to 5 seeds"]
    assert [plural(count, "trial") for count in (0, 1, 2, 1234)] == ["0 trials", "1 trial", "2 trials", "1,234 trials"]
    assert [join_words(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1610612736, "1.5 GiB"), (2**50, "1024.0 TiB")]
)
def test_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [("Traceback:\n  File x\nValueError: bad\n\n", "ValueError: bad"), (" \n", "no message"), (None, "no message")],
)
def test_last_line_of_an_error_that_may_have_no_message(text, line):
    assert last_line(text) == line


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


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:SECRET@127.0.0.1:9", "http://***@127.0.0.1:9"),
        ("https://SECRET@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("https://u:SECRET@github.com/a and ssh://v:SECRET@h", "https://***@github.com/a and ssh://***@h"),
        ("http://u:SEC/RET?x#y@host/z", "http://***@host/z"),
        ("http://u:%53ECRET@host", "http://***@host"),
        ("http://:SECRET@host", "http://***@host"),
        ("u:SECRET@host", "***@host"),
        ("AWS_ENDPOINT_URL='u:SECRET@host'", "AWS_ENDPOINT_URL='***@host'"),
        ("s3://bk/r?endpoint_override=u:SECRET@127.0.0.1:9", "s3://bk/r?endpoint_override=***@127.0.0.1:9"),
        ("s3://bk/r?endpoint_override=http%3A%2F%2Fu%3ASECRET%40h", "s3://bk/r?endpoint_override=http://***@h"),
        ("s3://bk/r?access_key=SECRET&region=eu", "s3://bk/r?access_key=***&region=eu"),
        ("s3://bk/r?secret%5Fkey=SECRET;region=eu", "s3://bk/r?secret%5Fkey=***;region=eu"),
        ("https://h/o?X-Amz-Signature=SECRET&X-Amz-Date=2026", "https://h/o?X-Amz-Signature=***&X-Amz-Date=2026"),
        ("(https://h/o?AWSAccessKeyId=SECRET&sig=SECRET)", "(https://h/o?AWSAccessKeyId=***&sig=***"),
        ("https://h/o?token=SECRET, then more", "https://h/o?token=*** then more"),
    ],
)
def test_secrets_in_addresses_are_masked(text, masked):
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/results?region=eu-west-1&scheme=http&endpoint_override=127.0.0.1:9000",
        "http://127.0.0.1:8000/report.html",
        "http://host:8000/a@b",
        "sweeps/optim.yaml:12: parameters.lr: min <= max must hold, but got min=0.1, max=0.01; swap them",
        "parquet:/data/a@b, write to someone@example.org",
        "huggingface://datasets/x",
        "10:30 @ 5 % and key=value",
        "",
    ],
)
def test_text_without_secrets_is_not_changed(text):
    assert mask_secrets(text) == text


def test_masking_a_long_text_is_quick():
    started = time.perf_counter()
    text = "://a:" * 20_000 + "?" * 100_000 + "x:y" * 50_000
    mask_secrets(text)
    mask_secrets(text + "@ a@b " + text)
    mask_secrets("=" * 200_000 + "@" * 100_000)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('<b title="x">\'&', "&lt;b title=&#34;x&#34;&gt;&#39;&amp;"),
        ("\x1b[31m\u202e", r"\x1b[31m\u202e"),
        ("a\nb", r"a\nb"),
        (0.5, "0.5"),
    ],
)
def test_text_of_a_page_has_neither_markup_nor_control_characters(text, written):
    assert escape_html(text) == written
    assert escape_html("a\nb", keep="\n") == "a\nb"


def test_range_of_numbers_is_one_number_if_all_are_equal():
    assert (number_range([3, 3]), number_range([5, 2, 1_000])) == ("3", "2 to 1,000")
