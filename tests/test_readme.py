"""README and docs/ name only commands, options, files, links and figures that exist."""

import importlib
import re
from pathlib import Path

import pytest
import torch
import typer
from helpers.factories import make_config, make_sweep_yaml, make_trial
from test_layers_of_the_house import BELOW, VOCABULARY

from flexres_tune import cli
from flexres_tune.api.running import Options
from flexres_tune.api.sweep import Sweep
from flexres_tune.datasets import load_trial_data
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.schema import columns_markdown
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import PRESETS
from flexres_tune.training import Checkpointer, choose_execution, fit

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
MAX_README_LINES = 150
MAX_GLOSSARY_ENTRIES = 25


def blocks(text):
    """(language, content) of each code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def calls(text):
    """(command, rest of its line) of each call of a command, in code blocks and inline code."""
    return re.findall(r"(?:python -m flexres_tune\.|flexres-tune )(\w+)((?: [^`\n#|]*)?)", text)


def parameters(command):
    """Names of the options of a Typer command and of all its subcommands."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return names.union(*map(parameters, getattr(command, "commands", {}).values()))


def options_of(name):
    command = typer.main.get_command(importlib.import_module(cli.COMMANDS[name][0]).app)
    return {"--help", *parameters(command), *(options_of("run") if name == "submit" else ())}


def anchors(text):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(text, title):
    """The text between a heading and the next one of the same level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def check_generated(page, name, expected, regen):
    """Compare the text between the marks of a page with what is generated, or rewrite it."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, rest = TEXTS[page].split(begin)
    written, after = rest.split(end)
    expected = expected.rstrip("\n") + "\n"
    if regen:
        PAGES[page].write_text(before + begin + expected + end + after, encoding="utf-8")
    else:
        assert written == expected, "run: python -m pytest tests/test_readme.py --regen"


def test_readme_is_one_short_page():
    assert len(README.splitlines()) <= MAX_README_LINES


def test_the_two_commands_are_the_first_code_blocks():
    first, second = (text.strip() for _, text in blocks(README)[:2])
    assert first == "pip install -r requirements.txt && python -m flexres_tune.run sweeps/optim.yaml"
    assert second == "pip install -r requirements.txt && python -m pytest"


def test_ci_runs_exactly_the_test_command_of_the_readme():
    assert blocks(README)[1][1].strip() in (ROOT / ".ci" / "run").read_text().splitlines()


def test_readme_lists_every_command():
    rows = re.findall(r"^\| `(\w+)` \|", section(README, "The commands"), re.MULTILINE)
    assert sorted(rows) == sorted(cli.COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    for name, arguments in calls(TEXTS[page]):
        if name == "results":  # python -m flexres_tune.results.schema
            continue
        assert name in cli.COMMANDS, (page, name)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", arguments):
            assert option in options_of(name), (page, name, option)


def test_every_query_is_described_and_no_other_is_named():
    commands = typer.main.get_command(importlib.import_module(cli.COMMANDS["query"][0]).app).commands
    commands = {name for name, command in commands.items() if not command.hidden}
    rows = re.findall(
        r"^\| `([a-z][a-z-]+)", section(TEXTS["docs/results.md"], "Ask on the command line"), re.MULTILINE
    )
    assert set(rows) - {"python"} == commands
    named = {
        words.split()[0] for text in TEXTS.values() for name, words in calls(text) if name == "query" and words.strip()
    }
    assert {word for word in named if re.fullmatch(r"[a-z-]+", word)} <= commands


@pytest.mark.parametrize("page", PAGES)
def test_options_named_in_the_text_belong_to_some_command(page):
    known = set().union(*map(options_of, cli.COMMANDS)) | {"--regen", "--check"}
    for code in re.findall(r"`(--[a-z][a-z-]*)[^`]*`", TEXTS[page]):
        assert code in known, (page, code)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    for path in set(re.findall(r"\b((?:sweeps|cluster|tests|flexres_tune|docs)/[\w/.-]+\.\w+)", TEXTS[page])):
        if path != "sweeps/x.yaml":  # in an example of an error
            assert (ROOT / path).exists(), (page, path)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), (page, target)
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), (page, target)


def test_every_page_is_reached_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", README))
    assert set(PAGES) - {"README.md"} == linked


@pytest.mark.parametrize("page", PAGES)
def test_sweep_files_of_the_pages_are_valid(page, tmp_path):
    from flexres_tune.spec import load_sweep

    for name, code in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", TEXTS[page], re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(code, encoding="utf-8")  # files that a sweep file of the page names
    for language, text in blocks(TEXTS[page]):
        if language == "yaml" and re.match(r"name:", text):
            file = tmp_path / "x.yaml"
            file.write_text(text, encoding="utf-8")
            load_sweep(str(file), profile="none")


@pytest.fixture
def trained_sweeps(tmp_path, monkeypatch):
    """The working folder has the sweeps `optim` and `rates`, with every trial trained, so that no page starts Ray."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    text = make_sweep_yaml(name="optim", parameters={"lr": {"values": [0.03, 0.1]}})
    (tmp_path / "sweeps" / "optim.yaml").write_text(text)
    for name in ("optim", "rates"):
        paths = SweepPaths(tmp_path / "results", name)
        base = {"augmentation": [], "batch_size": 64} if name == "optim" else {}
        for lr in (0.03, 0.1):
            config = make_config(lr=lr, epochs=2, **base)
            checkpointer = Checkpointer(paths.checkpoint(config.trial_id))
            data = load_trial_data(config, torch.device("cpu"))
            history = list(fit(config, data, choose_execution(config, torch.device("cpu")), checkpointer))
            with SweepWriter(paths) as writer:
                writer.add_trial(make_trial(config, best=history[-1].val_accuracy), config)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_of_the_page_runs_as_written(page, trained_sweeps, capsys):
    namespace = {}
    for code in [text for language, text in blocks(TEXTS[page]) if language == "python"]:
        exec(code, namespace)
        for call, value in re.findall(r"^(count_parameters\(.*\)) +# (\d+)$", code, re.MULTILINE):
            assert eval(call, namespace) == int(value)
    assert "nothing to do: all 2 trials are in" in capsys.readouterr().out
    with torch.inference_mode():
        assert namespace["model"](torch.rand(3, 3, 8, 8)).shape == (3, 10)


def test_methods_of_the_python_page_are_those_of_a_sweep():
    listed = set(re.findall(r"`(\w+)\(", section(TEXTS["docs/python.md"], "Ask a sweep")))
    methods = {name for name in vars(Sweep) if not name.startswith("_")} - {"folder"}
    assert methods <= listed
    options = set(re.findall(r"`(\w+)`", section(TEXTS["docs/python.md"], "Run a sweep")))
    assert set(Options.__annotations__) <= options


def test_parameter_counts_are_those_of_the_presets():
    for name, row in PRESETS.items():
        assert f"`{name}` {row['num_parameters']:,}" in TEXTS["docs/models.md"]


def test_fields_of_a_trial_and_of_a_sweep_are_all_described():
    from flexres_tune.spec import Architecture, SweepSpec
    from flexres_tune.spec.trial import TRIAL_FIELDS

    described = set(re.findall(r"`(\w+)`", TEXTS["docs/sweep-file.md"]))
    assert set(SweepSpec.model_fields) - {"profile", "source", "document", "code"} <= described
    assert set(TRIAL_FIELDS) - {"seed"} <= described
    assert set(Architecture.model_fields) <= set(re.findall(r"`(\w+)`", TEXTS["docs/models.md"]))


def test_columns_of_the_tables_are_those_of_the_schema(regen):
    check_generated("docs/results.md", "columns", columns_markdown(), regen)


def test_import_table_is_the_one_that_is_tested(regen):
    rows = ["| room | may import |", "|---|---|"]
    for room, below in BELOW.items():
        if room not in VOCABULARY:
            others = ", ".join(f"`{name}`" for name in sorted(below - VOCABULARY - {room}))
            rows.append(f"| `{room}` | the vocabulary{' and ' + others if others else ''} |")
    check_generated("docs/architecture.md", "imports", "\n".join(rows), regen)


def test_trunk_of_the_architecture_exists_and_is_short():
    files = re.findall(
        r"^\d+\. `([\w/.]+\.(?:py|yaml))`", section(TEXTS["docs/architecture.md"], "The trunk"), re.MULTILINE
    )
    assert 8 <= len(files) <= 13
    for file in files:
        assert (ROOT / file).exists() or (ROOT / "flexres_tune" / file).exists(), file


def test_files_of_the_architecture_exist():
    for file in re.findall(r"`([\w/]+/[\w/]+\.(?:py|yaml))`", TEXTS["docs/architecture.md"]):
        assert (ROOT / file).exists() or (ROOT / "flexres_tune" / file).exists(), file


def test_registries_of_the_extension_table_exist():
    named = re.findall(
        r"`([A-Z_]+)` of `(flexres_tune/[\w/]+)\.py`", section(TEXTS["docs/architecture.md"], "Extending it")
    )
    assert len(named) >= 8
    for registry, module in named:
        assert hasattr(importlib.import_module(module.replace("/", ".")), registry), (registry, module)


def test_glossary_is_short():
    entries = re.findall(r"^\| \*\*", section(TEXTS["docs/architecture.md"], "Glossary"), re.MULTILINE)
    assert 10 <= len(entries) <= MAX_GLOSSARY_ENTRIES


def test_rooms_of_the_architecture_are_those_of_the_package():
    package = ROOT / "flexres_tune"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    rooms |= {path.name for path in package.glob("*.py") if path.name != "__init__.py"}
    listed = set(re.findall(r"`(\w+(?:/|\.py))`", section(TEXTS["docs/architecture.md"], "The rooms")))
    assert {name.removesuffix("/") for name in listed} == rooms


def test_error_of_the_sweep_file_page_is_what_the_loader_says(tmp_path):
    from flexres_tune.errors import SpecError
    from flexres_tune.spec import load_sweep

    (example,) = [text.strip() for language, text in blocks(TEXTS["docs/sweep-file.md"]) if "sweeps/x.yaml" in text]
    lines = ["name: x", "method: random", "num_trials: 3", "base: {model: tiny}", "parameters:", *["  # as"] * 6]
    file = tmp_path / "x.yaml"
    file.write_text("\n".join([*lines, "  lr: {min: 0.1, max: 0.01}"]))
    with pytest.raises(SpecError) as error:
        load_sweep(str(file), profile="none")
    assert str(error.value) == example.replace("sweeps/x.yaml", str(file))
