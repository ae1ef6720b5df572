"""Attacks by text: sweep files, cluster files, `--set`, other options, SQL."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Iterator

from spec.test_hostile_files import BOMBS, FORM, TOKENS

from adversary.attack import CANARY, QUERIES, Call, Place, command
from adversary.template import CLUSTER_YAML, SWEEP_YAML
from flexres_tune.errors import FlexResError, SpecError
from flexres_tune.results.paths import TABLES
from flexres_tune.spec import load_sweep
from flexres_tune.submit.cluster_file import read_cluster_file

KEYS = (
    *("name", "description", "method", "metric", "metric.name", "max_parameters", "seeds", "base", "base.model"),
    *("base.lr", "base.epochs", "base.dataset", "base.model.channels", "parameters", "parameters.lr.values"),
    *("parameters[0]", "early_terminate.type", "confirm.top", "confirm", "profiles.laptop", "resources_per_trial.cpu"),
    *("budget.device_hours", "num_trials", "", ".", "..", "a[", "a]", "[0]", "base[0]", "seeds[1]", "seeds[999999]"),
)
VALUES = (
    *("", " ", "1", "-1", "0", "1e999", "1e-300", "nan", ".inf", "null", "~", "[]", "{}", "[[[[1]]]]", "{a: {b: c}}"),
    *("sgd", "tpe", "parquet:/dev", "parquet:~nouser/x", "parquet:" + "/x" * 3000, "parquet:.", "2.0", "010", "0x10"),
    *("'", '"', "&a [*a]", "!!python/object/apply:os.system [touch canary]", "\udc80", "\udcff", "\u202e", "\x1b[2J"),
    *("9" * 400, "a" * 5000, "[" * 3000, "{" * 3000, "- a\n- b", "2001-99-99", '"\\UFFFFFFFF"', "yes", "1_000"),
    *(f"$({CANARY})", "../../x", "index.html", "con", "..", ".hidden", "a/b", "é", "10^30", "1" + "0" * 30),
)
YAML_TOKENS = (*TOKENS, *VALUES, "2001-99-99", '"\\UFFFFFFFF"', "\t", "%YAML 9.9", "!<x>", "? ", "{*a: 1}", "|9", ">-")
SQL_TOKENS = (
    *("SELECT", "*", "FROM", "trials", "epochs", "decisions", "WHERE", "GROUP BY ALL", "ORDER BY", "lr", "optimizer"),
    *(
        "count(*)",
        "1/0",
        "NULL",
        "''",
        "'a'",
        "(",
        ")",
        ",",
        ";",
        "--",
        "/*",
        "UNION ALL",
        "WITH x AS",
        "JOIN",
        "USING",
    ),
    *("COPY trials TO '../out.csv'", "ATTACH '../x.db'", "INSTALL httpfs", "LOAD httpfs", "PRAGMA database_list"),
    *("read_csv('/etc/passwd')", "read_parquet('results/alpha/trials/*')", "getenv('HOME')", "glob('*')", "SET x=1"),
    *("EXPORT DATABASE '../x'", "CREATE TABLE t AS", "DROP VIEW trials", "range(100)", "repeat('a', 1000)", "versions"),
    *("TIMESTAMP '29000-01-01'", "'infinity'::DATE", "INTERVAL '9999999' YEAR", "'a'::BLOB", "MAP {'a': 1}", "uuid()"),
    *(
        "union_value(a := 1)",
        "'101'::BIT",
        "'{}'::JSON",
        "'inf'::FLOAT",
        "[[NULL]]",
        "{'a': {'b': DATE '290000-01-01'}}",
    ),
    *("(2::HUGEINT ** 100)::HUGEINT", "1.5::DECIMAL(38, 10)", "TIME '12:00'", "chr(0)", "chr(27)", "[x FOR x IN [1]]"),
    *("unnest(blocks)", "LIMIT 5", "LIMIT -1", "CAST(lr AS BLOB)", "sum(epoch) OVER ()", "PIVOT", "$1", "?", "\u202e"),
)


def mutate_text(chance: random.Random, text: str, tokens: tuple[str, ...]) -> str:
    """The text after one to four cuts, repeats, insertions and other values of keys."""
    for _ in range(chance.randint(1, 4)):
        begin = chance.randint(0, len(text))
        end = min(len(text), begin + chance.randint(0, 40))
        token = chance.choice(tokens)
        keys = [match.end() for match in re.finditer(r": ", text)]
        action = chance.choice(["insert", "replace", "cut", "repeat", "value", "value", "value"])
        if action == "insert":
            text = text[:begin] + token + text[begin:]
        elif action == "replace":
            text = text[:begin] + token + text[end:]
        elif action == "cut":
            text = text[:begin] + text[end:]
        elif action == "repeat":
            text = text[:end] + text[begin:]
        elif keys:
            at = chance.choice(keys)
            rest = re.search(r"[,}\]\n]|$", text[at:]).start() + at
            text = text[:at] + token + text[rest:]
    return text


def write_sweep_files(chance: random.Random, place: Place) -> Iterator[Call]:
    """A changed sweep file, or a bomb: every line of a refusal is `file:line: key: message`."""
    path = place.folder / "sweep.yaml"
    for _ in range(5):
        text = mutate_text(chance, SWEEP_YAML, YAML_TOKENS) if chance.random() < 0.95 else _bomb(chance)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        yield Call(f"load a sweep file\n{text[:1500]!r}", lambda: _check_form(lambda: load_sweep(str(path))))
    profile = chance.choice(["auto", "none", "laptop", *VALUES[:8]])
    yield command("run", path, "--dry-run", f"--profile={profile}", "--storage", place.results)


def _bomb(chance: random.Random) -> str:
    return chance.choice(list(BOMBS.values()))


def _check_form(load) -> None:
    try:
        load()
    except SpecError as error:
        for problem in error.problems:
            assert FORM.fullmatch(str(problem)), f"form of {problem}"
        raise


def set_options(chance: random.Random, place: Place) -> Iterator[Call]:
    """`run --dry-run --set KEY=VALUE`, and other options with odd values."""
    for _ in range(4):
        words = []
        for _ in range(chance.choice([1, 1, 2])):
            separator = chance.choice(["=", "=", "=", "=", "", "==", ": "])
            words += ["--set", chance.choice(KEYS) + separator + chance.choice(VALUES)]
        yield command("run", place.folder / "sweep.yaml", "--dry-run", "--profile", "none", *words)
    name = chance.choice(["--storage", "--retry", "--address", "--trial-timeout", "--max-concurrent", "--stage"])
    value = chance.choice([*VALUES, "s3://u:p@b/x", "s3:/x", "s3://b/x?endpoint_override=u:p@h", "gs://", "file:///x"])
    yield command("run", place.folder / "sweep.yaml", "--dry-run", "--profile", "none", f"{name}={value}")
    fields = chance.choice(["--blocks", "--channels", "--kernel-size", "--pool-size", "--head", "--dropout", "--block"])
    yield command("budget", chance.choice(["", "tiny", "resnet22_2"]), f"{fields}={chance.choice(VALUES)}")


def ask_oddly(chance: random.Random, place: Place) -> Iterator[Call]:
    """SQL made of random words, and queries with odd arguments."""
    for _ in range(3):
        sql = " ".join(["SELECT", *chance.choices(SQL_TOKENS, k=chance.randint(1, 8))])
        if chance.random() < 0.3:
            sql = chance.choice(SQL_TOKENS) + " " + sql
        if chance.random() < 0.3:  # more often without an error
            sql = f"SELECT {chance.choice(SQL_TOKENS)} FROM {chance.choice(TABLES)}"
        form = chance.choice([[], [], ["json"], ["csv"], ["markdown"], ["parquet", "--out", "answer.parquet"]])
        yield command("query", sql, "--results", place.results, *(["--format", *form] if form else []))
    words = [chance.choice([*VALUES, "lr", "alpha", "model"]) for _ in range(chance.choice([0, 1, 2]))]
    name = chance.choice(["compare", "diff", "status", "importance", "curves", chance.choice(QUERIES)[0]])
    option = chance.choice([[], ["--sweep", chance.choice(VALUES)], [f"--limit={chance.choice(VALUES)}"]])
    yield command("query", name, *words, *option, "--results", place.results)


def write_cluster_files(chance: random.Random, place: Place) -> Iterator[Call]:
    """A changed cluster file; one that is refused is also given to `submit`, which starts nothing."""
    path = place.folder / "cluster.yaml"
    for _ in range(5):
        text = mutate_text(chance, CLUSTER_YAML, YAML_TOKENS) if chance.random() < 0.95 else _cluster_bomb(chance)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        refused: list[FlexResError] = []
        yield Call(f"read a cluster file\n{text[:1500]!r}", lambda refused=refused: _read_cluster(path, refused))
    if refused:
        yield command("submit", path, place.folder / "sweep.yaml", chance.choice(["--fetch", "--stop", "--attach"]))


def _cluster_bomb(chance: random.Random) -> str:
    return CLUSTER_YAML + chance.choice([*BOMBS.values(), "x: &x [*x]\n", "x: " + "[" * 3_000 + "]" * 3_000 + "\n"])


def _read_cluster(path, refused: list[FlexResError]) -> None:
    refused.clear()
    try:
        found = read_cluster_file(path)
    except FlexResError as error:
        refused.append(error)
        raise
    assert shlex.split(shlex.quote(found.python)) == [found.python]
