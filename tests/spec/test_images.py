"""The text that names a trial's images, and the keys of a sweep file that it is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flexres_tune.spec import TrialConfig
from flexres_tune.spec.images import ImageOptions, Resize, name_images, split_options
from flexres_tune.spec.own_code.source import CodeName, Source

OPTIONS = st.builds(
    ImageOptions,
    st.none() | st.text(min_size=1, max_size=20),
    st.none() | st.builds(Resize, st.integers(1, 512), st.booleans()),
    st.booleans(),
)


@given(st.sampled_from(["digits", "parquet:images", "parquet:a b/c?d", "image_folder:/x?resize"]), OPTIONS)
def test_options_are_read_back(dataset, options):
    assert split_options(name_images(dataset, options)) == (dataset, options)


def test_a_reference_keeps_its_source():
    code = CodeName("my_data.py:load", Source(target="my_data.py:load", digest="x"))
    named = name_images(code, ImageOptions(has_test=False))
    assert named.source is code.source and split_options(named)[0].source is code.source


@pytest.mark.parametrize("value", [32, {"size": 32}, {"size": 32, "crop": None}, "32"])
def test_spellings_of_a_size_have_one_id(value):
    config = TrialConfig(model="tiny", dataset="mnist", resize=value)
    assert config.resize == "32" and config.images == "mnist?resize=32"
    assert TrialConfig.model_validate(config.to_dict()) == config


@pytest.mark.parametrize(
    "value", [0, 513, 1.5, True, [32], {"size": "32"}, {"size": 32, "crop": "left"}, {"crop": "center"}]
)
def test_other_sizes_are_refused(value):
    with pytest.raises(ValidationError, match="must be a size, or {size: 32, crop: center}|must be from 1 to 512"):
        TrialConfig(model="tiny", dataset="mnist", resize=value)


def test_each_option_is_part_of_the_configuration():
    fields = [{}, {"resize": 32}, {"resize": {"size": 32, "crop": "center"}}, {"label_column": "a"}, {"test": "none"}]
    assert len({TrialConfig(model="tiny", dataset="parquet:x", **each).config_id for each in fields}) == len(fields)


def test_a_label_column_in_the_name_is_read_as_the_key_is():
    old = TrialConfig(model="tiny", dataset="parquet:x?label_column=fine_label", resize=32)
    new = TrialConfig(model="tiny", dataset="parquet:x", label_column="fine_label", resize=32)
    assert old.images == new.images == "parquet:x?label_column=fine_label&resize=32"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"dataset": "cifar10", "label_column": "fine_label"},
            "label_column belongs to parquet:PATH, but dataset is cifar10",
        ),
        ({"dataset": "parquet:x?label_column=a", "label_column": "b"}, "dataset has a label_column already"),
        ({"dataset": "mnist?resize=32"}, "options of a data set are keys of their own.*write dataset: mnist"),
        ({"dataset": "parquet:x?label_column=a&test=none"}, "options of a data set are keys of their own"),
        ({"dataset": "mnist", "test": "some"}, "all.*none"),
        ({"dataset": "image_folder"}, "must be digits, .* or image_folder:PATH"),
    ],
)
def test_what_does_not_agree_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrialConfig.model_validate({"model": "tiny"} | values)


def test_images_of_own_code_are_not_resized():
    code = {"my_data.py:load": Source(target="my_data.py:load", digest="x")}
    values = {"model": "tiny", "dataset": "my_data.py:load", "code": code}
    assert TrialConfig.model_validate(values | {"test": "none"}).images == "my_data.py:load?test=none"
    with pytest.raises(ValidationError, match="resize belongs to data sets that this package reads"):
        TrialConfig.model_validate(values | {"resize": 32})
