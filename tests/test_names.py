import unicodedata

import pytest

from flexres_tune.names import name_problem


@pytest.mark.parametrize("name", ["optim", "batch_size", "größe-2", "实验.v1", "a" * 100, "_x", "console"])
def test_safe_names_are_accepted(name):
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "must not be empty"),
        (None, "must be text"),
        (7, "put it in quotes"),
        ("../x", "has '/'"),
        ("/etc", "has '/'"),
        ("a\\b", "letters, digits"),
        ("a\0b", r"'\x00'"),
        ("a b", "has ' '"),
        ("<script>", "has '<'"),
        ("\ud800", "letters, digits"),
        ("a\u202eb", "letters, digits"),
        ("..", "must not start"),
        (".hidden", "must not start"),
        ("-x", "must not start"),
        ("a..b", "contain '..'"),
        ("a.", "end with '.'"),
        ("con", "Windows"),
        ("LPT1.x", "use for example LPT1_sweep"),
        ("index.html", "use index"),
        ("Index.HTML", "report of all sweeps"),
        ("a" * 101, "shorten it"),
        ("实" * 90, "shorten it"),
        (unicodedata.normalize("NFD", "größe"), "composed letters: größe"),
    ],
)
def test_other_names_are_refused_with_what_to_do(name, words):
    assert words in name_problem(name)
