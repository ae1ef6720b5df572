"""Tags and notes: what people write of trials; files of strangers are left out, not obeyed."""

import json
import logging
import os

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.results.tags import MAX_CHARACTERS, add_tag, read_notes, read_tags, remove_tags


def test_tags_are_read_back_oldest_first_and_removed_by_their_text(paths):
    for text in ("first", " second ", "first"):
        add_tag(paths, "a-0", text)
    add_tag(paths, "b-1", "other")
    assert [tag.text for tag in read_tags(paths)["a-0"]] == ["first", "second", "first"]
    assert "@" in read_tags(paths)["b-1"][0].who
    assert remove_tags(paths, "a-0", "first") == 2
    assert remove_tags(paths, "a-0", "first") == 0
    assert [tag.text for tag in read_tags(paths)["a-0"]] == ["second"]


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "x" * (MAX_CHARACTERS + 1), "\x1b[31mred"])
def test_text_that_is_no_line_is_refused(paths, text):
    with pytest.raises(ResultsError, match=r"must be one line of 1 to 200 characters.*notes\.md"):
        add_tag(paths, "a-0", text)
    assert read_tags(paths) == {}


def test_files_that_are_no_tags_are_left_out_with_a_warning(paths, caplog):
    tag = add_tag(paths, "a-0", "good")
    good = {"trial_id": "a-0", "text": "x", "who": "me", "tagged_at": tag.tagged_at}
    wrong = [b"{", b"[]", json.dumps(good | {"text": 3}).encode(), json.dumps(good | {"trial_id": "../x"}).encode()]
    wrong += [b"[" * 3_000, json.dumps(good | {"text": "x" * 5_000}).encode()]
    for number, content in enumerate(wrong):
        (paths.tags / f"20260101T00000000000{number}-00000000.json").write_bytes(content)
    os.mkfifo(paths.tags / "20260101T000000000009-00000000.json")
    (paths.tags / "readme.txt").write_text("no tag")
    with caplog.at_level(logging.WARNING):
        assert [each.text for each in read_tags(paths)["a-0"]] == ["good"]
    assert len(caplog.messages) == len(wrong) + 1


def test_notes_are_text_or_a_sentence_that_says_why_not(paths):
    assert read_notes(paths) == ""
    paths.folder.mkdir(parents=True)
    paths.notes.write_bytes("Größe\n".encode() + b"\xff")
    assert read_notes(paths) == "Größe\n\ufffd"
    paths.notes.write_text("x" * 60_000)
    assert read_notes(paths).startswith("notes.md cannot be read: ")
    paths.notes.unlink()
    os.mkfifo(paths.notes)
    assert read_notes(paths).startswith("notes.md cannot be read: ")
