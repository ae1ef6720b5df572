"""Axes of parameters, thinning and the range of an axis."""

from flexres_tune.report.plots.axes import parameter_axis
from flexres_tune.report.plots.style import focus, thin


def test_few_numbers_are_categories_in_order():
    axis = parameter_axis("lr", [0.1, 0.001, 0.01, 0.1])
    assert axis.kind == "category"
    assert axis.texts == ["0.001", "0.01", "0.1"]


def test_many_numbers_over_decades_have_a_log_scale():
    axis = parameter_axis("lr", [10 ** (-i / 5) for i in range(20)])
    assert axis.kind == "log"
    assert [text for _, text in axis.ticks] == ["0.001", "0.01", "0.1", "1"]


def test_many_numbers_with_a_zero_have_a_linear_scale():
    assert parameter_axis("weight_decay", [i / 1000 for i in range(40)]).kind == "linear"


def test_lists_words_and_none_are_categories():
    axis = parameter_axis("augmentation", [["crop", "flip"], [], ["crop"]])
    assert axis.texts == ["none", "crop", "crop+flip"]
    assert axis.place(["crop"]) == 1
    assert parameter_axis("momentum", [0.9, None]).values == (None, 0.9)


def test_thinned_items_keep_both_ends():
    assert thin(list(range(1000)), 5) == [0, 250, 500, 749, 999]
    assert thin([1, 2], 5) == [1, 2]


def test_one_bad_value_does_not_flatten_the_others():
    low, high = focus([10, 97, 97.5, 98, 98.5, 99])
    assert low > 80
    assert 99 < high <= 101


def test_an_interval_does_not_extend_the_axis_of_accuracies_below_zero():
    low, _ = focus([14.0, 40.0, 80.0, 89.0], visible=[64.0], reaches=[64.0])
    assert -5 < low < 0  # room for half a marker
    low, _ = focus([-3.0, -2.0, -1.0], reaches=[1.0])
    assert low < -3.5
