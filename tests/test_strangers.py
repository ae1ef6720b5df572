"""No file that somebody else wrote can execute code: every call in the package that could is refused or restricted."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "flexres_tune"

FORBIDDEN = {
    *(f"{module}.{name}" for module in ("pickle", "dill", "cloudpickle", "marshal") for name in ("load", "loads")),
    *("pickle.Unpickler", "joblib.load", "shelve.open", "pd.read_pickle", "pandas.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"),
}
REQUIRED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}  # and such calls exist


def calls():
    """(place, the function's name as written, keyword arguments) of every call in the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", ast.unparse(node.func), keywords


def test_nothing_is_unpickled_and_no_text_is_executed():
    assert not [place for place, name, _ in calls() if name in FORBIDDEN or name.endswith(".read_pickle")]


def test_yaml_is_not_read_into_objects():
    assert not [place for place, name, keywords in calls() if name == "YAML" and keywords.get("typ") == "unsafe"]


def test_checkpoints_and_arrays_are_read_as_plain_data():
    found = [(place, name, keywords) for place, name, keywords in calls() if name in REQUIRED]
    assert {name for _, name, _ in found} == set(REQUIRED)
    for place, name, keywords in found:
        keyword, value = REQUIRED[name]
        assert keywords.get(keyword) is value, f"{place}: {name} must be called with {keyword}={value}"
