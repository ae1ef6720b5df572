from importlib.metadata import PackageNotFoundError, version

from flexres_tune.bench import figures
from flexres_tune.bench.figures import Figure, describe_machine, ratios


def test_figure_is_the_median_with_its_range():
    assert Figure.of("a", "s", [3.0, 1.0, 2.0]) == Figure("a", "s", median=2.0, low=1.0, high=3.0, n=3)


def test_ratios_are_taken_pair_by_pair():
    assert ratios([10.0, 40.0], [5.0, 10.0]) == [2.0, 4.0]


def test_machine_names_its_device_and_versions():
    text = describe_machine()
    for word in ("torch", "ray", "Python"):
        assert word in text


def test_machine_without_ray_has_a_name_too(monkeypatch):
    def find(name):
        if name == "ray":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(figures, "version", find)
    assert "ray" not in describe_machine() and "torch" in describe_machine()
