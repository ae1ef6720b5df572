"""Whatever a sweep file contains, it loads, or it is refused with problems of the form file:line: key: message."""

from __future__ import annotations

import gc
import re
import resource
import tempfile
import time
from pathlib import Path

import pytest
from helpers import special_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.run.printout import describe_plan
from flexres_tune.spec import count_trials, expand_trials, load_sweep

NUM_FILES = 300
NUM_FILES_SLOW = 10_000
MAX_SECONDS = 1.0  # of this thread: other work on the machine, and what other tests left, does not count

GOOD = Path(__file__).with_name("good.yaml").read_text()
FORM = re.compile(r"(\S[^\n]*\.yaml(:\d+)?|--set [^\n]*?): [^\n]+")
WORDS = """{ } [ ] : , - & * ! | > ' " % @ ` # ? ~ null true yes on nan .inf -.inf 1e999 1e-3 0x1F 0o7 2001-01-01 -1 0
1.5 5_000_000 9999999999999999999999 &a *a !!python/object:os.system <<: --- ... asha tpe random grid values min max
model.blocks resnet18 tiny digits cifar10 parquet:/x test_accuracy laptop profiles base parameters seed"""
ODD = ["\t", "\n", "\0", "\x1b[31m", "\ufeff", "\u202e", "\\ud800", "é", "  ", "a" * 3000, "[" * 200, "9" * 5000]
TOKENS = WORDS.split() + ODD


@st.composite
def mutated_files(draw) -> bytes:
    """The good file after a few cuts, repeats, insertions, swaps and raw bytes."""
    lines = GOOD.splitlines(keepends=True)
    text = GOOD
    for _ in range(draw(st.integers(1, 4))):
        action = draw(st.sampled_from(["insert", "insert", "replace", "replace", "cut", "repeat", "line", "scalar"]))
        i = draw(st.integers(0, len(text)))
        j = min(len(text), i + draw(st.integers(0, 40)))
        token = draw(st.sampled_from(TOKENS))
        if action == "insert":
            text = text[:i] + token + text[i:]
        elif action == "replace":
            text = text[:i] + token + text[j:]
        elif action == "cut":
            text = text[:i] + text[j:]
        elif action == "repeat":
            text = text[:j] + text[i:]
        elif action == "line":
            text = text + draw(st.sampled_from(lines))
        else:  # another value for a key
            keys = [match.end() for match in re.finditer(r": ", text)]
            if keys:
                at = draw(st.sampled_from(keys))
                end = re.search(r"[,}\]\n]|$", text[at:]).start() + at
                text = text[:at] + token + text[end:]
    raw = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        i = draw(st.integers(0, len(raw)))
        raw = raw[:i] + draw(st.binary(max_size=8)) + raw[i:]
    return raw


def check_file(raw: bytes, folder: str) -> str:
    """Loads and expands a file; returns how it ended."""
    path = Path(folder, "fuzz.yaml")
    path.write_bytes(raw)
    gc.freeze()  # else the garbage collector would go through all that other tests hold, too
    begin = time.thread_time()
    try:
        spec = load_sweep(str(path), profile="auto", has_gpu=lambda: False, describe=describe_dataset)
        if not 2_000 < count_trials(spec) <= 100_000:  # a long sweep may take its time
            describe_plan(spec, expand_trials(spec, describe_dataset))
        return "loaded"
    except SpecError as error:
        assert error.problems
        for problem in error.problems:
            assert FORM.fullmatch(str(problem)), str(problem)
            assert len(str(problem)) < 1500, str(problem)
            assert str(problem).isprintable(), str(problem)
        return "refused"
    finally:
        seconds = time.thread_time() - begin
        gc.unfreeze()
        assert seconds < MAX_SECONDS


@settings(max_examples=NUM_FILES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(raw=mutated_files())
def test_a_mutated_file_loads_or_is_refused_in_our_form(raw):
    with tempfile.TemporaryDirectory() as folder:
        check_file(raw, folder)


@pytest.mark.slow
@settings(max_examples=NUM_FILES_SLOW, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(raw=mutated_files())
def test_ten_thousand_mutated_files_load_or_are_refused_in_our_form_and_in_little_memory(raw):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        check_file(raw, folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024, "kibibytes: one file, 200 MB"


BOMBS = {
    "alias bomb": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{chr(b + 1)}: &{chr(b + 1)} [{','.join(['*' + chr(b)] * 10)}]\n" for b in range(ord("a"), ord("k"))),
    "deep list": "base: " + "[" * 5000,
    "deep list with values": "base: " + ("[" * 39 + "a,") * 2000,
    "deep list, closed": "base: " + ("[" * 39 + "1,") * 60 + "]" * 39 * 60,
    "deep list after closing": "# " + "]" * 6000 + "\nbase: " + "[" * 5000,
    "deep mapping": "base: " + "{a: " * 5000,
    "deep block": "".join(" " * i + "a:\n" for i in range(300)),
    "deep aliases": "a: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 500)),
    "many keys": "".join(f"k{i}: 1\n" for i in range(9000)),
    "many values": "name: x\nbase: {model: tiny}\nparameters: {lr: {values: [" + "1," * 45_000 + "]}}",
    "too many bytes": "# " + "x" * 200_000,
    "billion trials": "name: x\nbase: {model: tiny}\nparameters: {"
    + ", ".join(
        f"{key}: {{values: [{','.join(f'0.{i}' for i in range(1, 1001))}]}}"
        for key in ("lr", "weight_decay", "mixup_alpha")
    )
    + "}",
    "many blocks": "name: x\nbase: {model: {blocks: [" + "100000," * 12 + "], channels: [" + "100000," * 12 + "]}}",
    "many big models": "name: x\nbase: {model: {blocks: [1], channels: [100]}}\nparameters: {model.blocks: {values: ["
    + ",".join(f"[{100000 - i}]" for i in range(2000))
    + "]}}",
    "long number": "name: x\nmax_parameters: " + "9" * 90_000,
    "long key": "name: x\n" + "k" * 90_000 + ": 1",
    "long value": "name: x\nbase: {model: " + "k" * 90_000 + "}",
    "long text": "name: " + "a" * 90_000,
    "many problems": "name: x\nbase: {model: tiny}\nparameters:\n" + "  - {lrr: {value: 1}}\n" * 4000,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_at_once(kind, tmp_path):
    assert check_file(BOMBS[kind].encode(), str(tmp_path)) == "refused"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"\xef\xbb\xbf",
        b"\0",
        b"\xff\xfe",
        b"name: \x80",
        b"- a",
        b"5",
        b"name",
        b"\x1b[31m: 1",
        b"%YAML 1.1\n---\n",
    ],
)
def test_no_mapping_is_refused(raw, tmp_path):
    assert check_file(raw, str(tmp_path)) == "refused"


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b", "x" * 5000])
def test_an_unreadable_path_is_refused(name, tmp_path):
    with pytest.raises(SpecError, match="must be a sweep file that can be read"):
        load_sweep(str(tmp_path / name))


@pytest.mark.parametrize("special", [special_files.pipe, special_files.endless])
def test_a_file_that_is_no_regular_file_is_refused_at_once(special, tmp_path):
    special(tmp_path / "x.yaml")
    with special_files.in_time(), pytest.raises(SpecError, match="x.yaml: must be a sweep file .* not a regular file"):
        load_sweep(str(tmp_path / "x.yaml"))


def test_a_grid_of_many_different_problems_is_refused_by_the_first_of_them(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(BOMBS["many big models"])
    with pytest.raises(SpecError) as caught:
        expand_trials(load_sweep(str(path), profile="none"), describe_dataset)
    assert "(first model.blocks=[100000])" in str(caught.value) and "of 2,000 configurations" not in str(caught.value)
