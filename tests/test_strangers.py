"""Nothing of a stranger's folder is ever executed."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "flexres_tune"
UNPICKLING = re.compile(r"\b(pickle|dill|joblib|marshal)\.(load|loads|Unpickler)\b|\bshelve\.|\bread_pickle\b")


def sources():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 80
    return {file.relative_to(PACKAGE): file.read_text() for file in files}


def test_no_file_is_unpickled():
    assert not [name for name, text in sources().items() if UNPICKLING.search(text)]


def test_checkpoints_are_read_as_weights_only_and_arrays_without_objects():
    calls = [
        (name, call) for name, text in sources().items() for call in re.findall(r"torch\.load\([^)]*\)?[^)]*\)", text)
    ]
    assert calls
    assert all("weights_only=True" in call for _, call in calls)
    calls = [call for text in sources().values() for call in re.findall(r"np\.load\([^\n]*", text)]
    assert calls
    assert all("allow_pickle=False" in call for call in calls)


def test_yaml_is_read_without_objects_and_no_text_is_executed():
    text = "\n".join(sources().values())
    assert not re.search(r"(?<![\w.])(eval|exec)\(", text)
    assert not re.search(r"YAML\(typ=['\"]unsafe|yaml\.(load|unsafe_load)\(", text)
