"""README's commands are the ones that work."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = sorted(set(re.findall(r"python -m (flexres_tune\.\w+)", README)))


def test_the_two_commands_stand_at_the_top():
    first, second = (text.strip() for language, text in BLOCKS[:2])
    assert first == "pip install -r requirements.txt && python -m flexres_tune.run sweeps/optim.yaml"
    assert second == "pip install -r requirements.txt && python -m pytest"


def test_ci_calls_exactly_the_readmes_test_command():
    assert BLOCKS[1][1].strip() in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("module", COMMANDS)
def test_command_exists(module):
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b((?:sweeps|cluster|tests)/[\w/.-]+\.\w+)", README))))
def test_file_that_is_named_is_there(path):
    if path != "sweeps/x.yaml":  # stands in an example of an error
        assert (ROOT / path).exists()


def test_options_that_are_named_are_there():
    """Each --option in a command line of a code block is known to that command."""
    for language, text in BLOCKS:
        if language not in ("console", "bash", "sh"):
            continue
        for line in text.splitlines():
            if match := re.search(r"python -m flexres_tune\.(\w+) (.*)", line):
                source = (ROOT / "flexres_tune" / f"{match[1]}.py").read_text()
                if match[1] == "train":  # its options are made from TrialConfig's fields
                    continue
                arguments = re.sub(r"'[^']*'?$", "", match[2].split(" #")[0])  # quotes may end lines later
                for word in shlex.split(arguments):
                    if word.startswith("--") and word != "--help":
                        name = word.split("=")[0]
                        declared = name.removeprefix("--").replace("-", "_")
                        assert f'"{name}"' in source or re.search(rf"\b{declared}: Annotated", source), (line, name)


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    (code,) = [text for language, text in BLOCKS if language == "python"]
    code = code.replace('open_results("results")', f'open_results("{tmp_path}")')
    expected = re.findall(r"^(count_parameters\(.*\)) +# (\d+)$", code, re.MULTILINE)
    assert len(expected) == 2
    namespace = {}
    exec("\n".join(line for line in code.splitlines() if "open_results(" not in line), namespace)
    for call, value in expected:
        assert eval(call, namespace) == int(value)
    assert sum(p.numel() for p in namespace["model"].parameters()) == 4_922_826


def test_parameter_table_is_that_of_the_presets():
    from flexres_tune.spec import PRESETS

    for name, row in PRESETS.items():
        assert f"`{name}` {row['num_parameters']:,}" in README
