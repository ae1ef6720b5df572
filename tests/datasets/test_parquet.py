"""Hugging Face folders, whole and broken."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from flexres_tune.datasets import DataShape, decode, describe_dataset, images, load_dataset, parquet
from flexres_tune.errors import DataError

CPU = torch.device("cpu")
REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "cache"))
    images.load_whole.cache_clear()
    return tmp_path / "cache"


def encode(pixels, mode="RGB", form="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels, "RGB").convert(mode).save(file, form)
    return file.getvalue()


def pixels_of(row, size=8):
    return np.random.default_rng(row).integers(0, 256, (size, size, 3), np.uint8)


def write(path, encoded, labels, column="img", metadata=None, label_type=None):
    table = pa.table(
        {
            column: pa.array([{"bytes": data, "path": "x.png"} for data in encoded]),
            "label": pa.array(labels, label_type or pa.int64()),
        }
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.fixture
def folder(tmp_path):
    """40 training and 12 test images of three classes, losslessly encoded."""
    path = tmp_path / "set"
    write(path / "train.parquet", [encode(pixels_of(i)) for i in range(40)], [i % 3 for i in range(40)])
    write(path / "test.parquet", [encode(pixels_of(100 + i)) for i in range(12)], [i % 3 for i in range(12)])
    return path


def load(folder):
    return load_dataset(f"parquet:{folder}", CPU)


def both(folder):
    """The message of loading and of describing a broken folder, which must be the same if both can see the problem."""
    with pytest.raises(DataError) as loading:
        load(folder)
    with pytest.raises(DataError) as describing:
        describe_dataset(f"parquet:{folder}")
    assert str(loading.value) == str(describing.value)
    return str(loading.value)


def test_every_image_comes_out_once_with_its_label(folder):
    data = load(folder)
    known = {pixels_of(i).transpose(2, 0, 1).tobytes(): i % 3 for i in range(40)}
    assert [len(s) for s in (data.train, data.val, data.test)] == [36, 4, 12]
    for split in (data.train, data.val):
        assert [known.pop(image.numpy().tobytes()) for image in split.images] == split.labels.tolist()
    assert not known
    for i, image in enumerate(data.test.images):  # in the file's order
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels_of(100 + i))
    assert data.class_names == ("0", "1", "2")
    assert describe_dataset(f"parquet:{folder}") == DataShape(8, 3, 36, 4, 12)


def test_a_second_process_does_not_decode_again(folder, monkeypatch):
    first = load(folder)
    images.load_whole.cache_clear()
    monkeypatch.setattr(parquet, "decode_images", lambda *args: pytest.fail("decoded again"))
    second = load(folder)
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(first, name).images, getattr(second, name).images)
        assert torch.equal(getattr(first, name).labels, getattr(second, name).labels)
    assert torch.equal(first.mean, second.mean)


def test_changed_content_is_decoded_again(folder):
    load(folder)
    images.load_whole.cache_clear()
    write(folder / "test.parquet", [encode(pixels_of(200 + i)) for i in range(12)], [0, 1, 2] * 4)
    assert np.array_equal(load(folder).test.images[0].permute(1, 2, 0).numpy(), pixels_of(200))


@pytest.mark.parametrize("damage", [b"", b"noise", None], ids=["empty", "noise", "missing"])
def test_a_damaged_cache_is_made_again(folder, cache, damage):
    expected = load(folder).train.images.clone()
    images.load_whole.cache_clear()
    (stored,) = cache.glob("arrays/*/train_images.npy")
    stored.unlink()
    if damage is not None:
        stored.write_bytes(damage)
    assert torch.equal(load(folder).train.images, expected)
    assert stored.stat().st_size > expected.numel()
    assert [path.name for path in stored.parent.parent.iterdir()] == [stored.parent.name]  # nothing left aside


def test_a_cache_that_cannot_be_written_is_no_error(folder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "file" / "below"))
    assert len(load(folder).train) == 36
    assert "each process decodes them again" in caplog.text


def test_writing_to_the_tensors_does_not_reach_the_cache(folder):
    before = load(folder).train.images.clone()
    load(folder).train.images.zero_()
    images.load_whole.cache_clear()
    assert torch.equal(load(folder).train.images, before)


@pytest.mark.parametrize(
    "metadata",
    [
        {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["ant", "bee", "cow"]}}}})},
        {"classes": "ant,bee,cow"},
    ],
    ids=["huggingface", "classes"],
)
def test_names_of_classes_are_read_from_the_schema(folder, metadata):
    write(
        folder / "train.parquet",
        [encode(pixels_of(i)) for i in range(40)],
        [i % 2 for i in range(40)],
        "image",
        metadata,
    )
    write(folder / "test.parquet", [encode(pixels_of(i)) for i in range(4)], [0, 1, 0, 1])
    assert load(folder).class_names == ("ant", "bee", "cow")  # also one that no image has
    assert describe_dataset(f"parquet:{folder}").num_classes == 3


def test_names_of_classes_that_are_nested_without_end_are_none(folder):
    images_of_two_classes = [encode(pixels_of(i)) for i in range(40)], [i % 2 for i in range(40)]
    write(folder / "train.parquet", *images_of_two_classes, "image", {"huggingface": "[" * 100_000})
    write(folder / "test.parquet", *images_of_two_classes)
    assert describe_dataset(f"parquet:{folder}").num_classes == 2


@pytest.mark.parametrize(("mode", "form"), [("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG")])
def test_other_colour_modes_become_rgb(folder, mode, form):
    write(folder / "test.parquet", [encode(pixels_of(i), mode, form) for i in range(3)], [0, 1, 2])
    assert load(folder).test.images.shape == (3, 3, 8, 8)


def test_a_missing_folder_says_what_was_looked_for(tmp_path):
    message = both(tmp_path / "nowhere")
    assert "there is no such folder; looked for train.parquet and test.parquet in" in message


def test_a_missing_file_says_which_and_what_is_there(folder):
    (folder / "test.parquet").rename(folder / "validation.parquet")
    assert "it holds train.parquet, validation.parquet; looked for test.parquet in" in both(folder)


@pytest.fixture
def hub_folder(tmp_path):
    """A folder as Hugging Face's hub has it: data/, shards, a validation split, two columns of labels."""
    names = {"fine_label": ["ant", "bee", "cow"], "coarse_label": ["small", "large"]}
    features = {key: {"names": value, "_type": "ClassLabel"} for key, value in names.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = tmp_path / "hub"
    sizes = {
        "train-00000-of-00002": 25,
        "train-00001-of-00002": 15,
        "validation-00000-of-00001": 9,
        "test-00000-of-00001": 6,
    }
    for number, (name, size) in enumerate(sizes.items()):
        table = pa.table(
            {
                "image": pa.array([{"bytes": encode(pixels_of(100 * number + i)), "path": None} for i in range(size)]),
                "fine_label": pa.array([i % 3 for i in range(size)], pa.int64()),
                "coarse_label": pa.array([int(i % 3 == 2) for i in range(size)], pa.int64()),
            }
        )
        (path / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), path / "data" / f"{name}.parquet")
    return path


def test_a_folder_of_the_hub_is_read_as_it_lies(hub_folder):
    name = f"parquet:{hub_folder}?label_column=fine_label"
    assert describe_dataset(name) == DataShape(8, 3, num_train=40, num_val=9, num_test=6)
    data = load_dataset(name, CPU)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 9, 6)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.train.images[25].permute(1, 2, 0).numpy().tolist() == pixels_of(100).tolist()  # of the second shard
    assert data.val.labels.tolist() == [0, 1, 2] * 3
    coarse = load_dataset(f"parquet:{hub_folder}?label_column=coarse_label", CPU)
    assert coarse.class_names == ("small", "large") and coarse.train.labels.tolist() != data.train.labels.tolist()


def test_labels_must_be_named_if_several_columns_may_be_them(hub_folder):
    message = both(hub_folder)
    assert "must have a column label" in message and "for example label_column: fine_label" in message
    assert "must have a column lbl" in both(f"{hub_folder}?label_column=lbl")


def test_without_test_images_a_folder_needs_none(hub_folder):
    (hub_folder / "data" / "test-00000-of-00001.parquet").unlink()
    name = f"{hub_folder}?label_column=fine_label"
    assert "looked for test.parquet" in both(name) and "if there are no test images, write test: none" in both(name)
    assert describe_dataset(f"parquet:{name}&test=none") == DataShape(8, 3, num_train=40, num_val=9, num_test=0)
    assert len(load_dataset(f"parquet:{name}&test=none", CPU).test) == 0


def test_test_images_that_are_not_used_are_not_opened(folder):
    """The hub has data sets whose test images have the label -1."""
    write(folder / "test.parquet", [encode(pixels_of(i)) for i in range(4)], [-1] * 4)
    assert "label must be from 0 to K-1, but is -1" in both(folder)
    assert len(load(f"{folder}?test=none").train) == 36


def test_images_of_all_sizes_are_resized_once(folder, monkeypatch):
    encoded = [encode(np.full((8 + i % 5, 8 + i % 7, 3), i, np.uint8)) for i in range(40)]
    write(folder / "train.parquet", encoded, [i % 3 for i in range(40)])
    data = load(f"{folder}?resize=16+center")
    assert sorted([*data.train.images[:, 0, 3, 4], *data.val.images[:, 0, 3, 4]]) == list(range(40))
    assert data.test.images.shape == (12, 3, 16, 16)
    images.load_whole.cache_clear()
    monkeypatch.setattr(parquet, "decode_images", lambda *args: pytest.fail("decoded again"))
    load(f"{folder}?resize=16+center")


def test_files_of_the_library_datasets_are_read(tmp_path):
    """A split that `datasets` wrote in shards, as push_to_hub does, with its features."""
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Dataset"):
        pytest.skip("the folder of these tests has the library's name, which is not installed")
    features = datasets.Features({"image": datasets.Image(), "fine_label": datasets.ClassLabel(names=["ant", "bee"])})
    for split, count in {"train": 30, "validation": 8, "test": 6}.items():
        rows = {"image": [Image.fromarray(pixels_of(i, 8 + i % 2)) for i in range(count)]}
        rows["fine_label"] = [i % 2 for i in range(count)]
        whole = datasets.Dataset.from_dict(rows, features)
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        for shard in range(2):
            name = f"{split}-{shard:05}-of-00002.parquet"
            whole.shard(2, shard, contiguous=True).to_parquet(tmp_path / "hub" / "data" / name)
    data = load_dataset(f"parquet:{tmp_path / 'hub'}?label_column=fine_label&resize=8", CPU)
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 8, 6]
    assert data.class_names == ("ant", "bee") and data.val.labels.tolist() == [0, 1] * 4
    assert np.array_equal(data.test.images[4].permute(1, 2, 0).numpy(), pixels_of(4))


def test_a_folder_of_save_to_disk_is_told_from_an_empty_one(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match="it holds what save_to_disk writes; write each split by its to_parquet"):
        load(tmp_path)


def test_two_folders_with_the_same_split_are_not_mixed(hub_folder, folder):
    (hub_folder / "other").mkdir()
    (folder / "train.parquet").rename(hub_folder / "other" / "train.parquet")
    assert "must have the files of train in one folder" in both(hub_folder)


def test_a_damaged_row_of_a_shard_is_named_with_its_file(hub_folder):
    path = hub_folder / "data" / "train-00001-of-00002.parquet"
    table = pq.read_table(path)
    column = pa.array(
        [
            {"bytes": b"no image" if i == 7 else row["bytes"].as_py(), "path": None}
            for i, row in enumerate(table["image"])
        ],
        table.schema.field("image").type,
    )
    pq.write_table(table.set_column(0, table.schema.field(0), column), path)
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet: row 7: "):
        load_dataset(f"parquet:{hub_folder}?label_column=fine_label", CPU)


@pytest.mark.parametrize("keep", [0, 3, 1000])
def test_a_file_that_was_cut_short_is_refused(folder, keep):
    path = folder / "train.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    assert both(folder).startswith(f"{path}: must be a complete Parquet file, but cannot be read")


def test_noise_in_the_pages_is_an_error_that_names_the_file(folder):
    path = folder / "train.parquet"
    content = bytearray(path.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet: "):
        load(folder)


def test_wrong_columns_are_named(folder):
    write(folder / "train.parquet", [encode(pixels_of(0))] * 40, [0, 1] * 20, column="images")
    assert "must have a column img or image {bytes, path}, but has images, label; did you mean images?" in both(folder)


def test_an_image_column_of_another_form_is_refused(folder):
    table = pa.table({"img": pa.array([[1, 2]] * 40), "label": pa.array([0, 1] * 20)})
    pq.write_table(table, folder / "train.parquet")
    assert "column img must be a struct {bytes: binary, path: string}, but is list" in both(folder)


@pytest.mark.parametrize(("labels", "kind"), [(["a", "b"], pa.string()), ([0.0, 1.0], pa.float64())])
def test_labels_that_are_no_integers_are_refused(folder, labels, kind):
    write(folder / "train.parquet", [encode(pixels_of(0))] * 40, labels * 20, label_type=kind)
    assert f"column label must be of integers 0 to K-1, but is {kind}" in both(folder)


@pytest.mark.parametrize(
    ("row", "label", "words"),
    [
        (7, -1, "train.parquet: row 7: label must be from 0 to K-1, but is -1"),
        (7, None, "train.parquet: row 7: label must be an integer, but is missing"),
        (7, 1_000_000, "train.parquet: row 7: labels must be 0 to K-1 without a gap, but no row has 3"),
    ],
)
def test_a_label_out_of_range_is_named_with_its_row(folder, row, label, words):
    labels = [i % 3 for i in range(40)]
    labels[row] = label
    write(folder / "train.parquet", [encode(pixels_of(0))] * 40, labels)
    assert words in both(folder)


def test_a_label_above_the_named_classes_is_refused(folder):
    write(folder / "train.parquet", [encode(pixels_of(0))] * 40, [0, 1] * 19 + [0, 2], metadata={"classes": "ant,bee"})
    assert "train.parquet: row 39: label must be below the number of classes, 2 in train.parquet, but is 2" in both(
        folder
    )


def test_one_class_only_is_refused(folder):
    write(folder / "train.parquet", [encode(pixels_of(0))] * 40, [0] * 40)
    assert "must have at least two classes, but all 40 rows have label 0" in both(folder)


def test_a_test_split_of_other_classes_is_refused(folder):
    write(folder / "test.parquet", [encode(pixels_of(0))] * 4, [0, 1, 2, 3])
    assert "test.parquet: row 3: label must be below the number of classes, 3 in train.parquet" in both(folder)
    metadata = {"classes": "ant,bee,cow,dog"}
    write(folder / "train.parquet", [encode(pixels_of(0))] * 40, [0, 1] * 20, metadata=metadata)
    assert "test.parquet: row 2: the test split must have the training split's classes" in both(folder)


@pytest.mark.parametrize(("num_train", "num_test"), [(9, 4), (40, 0)])
def test_too_few_images_are_refused(folder, num_train, num_test):
    write(folder / "train.parquet", [encode(pixels_of(0))] * num_train, [i % 2 for i in range(num_train)])
    write(folder / "test.parquet", [encode(pixels_of(0))] * num_test or [], [i % 2 for i in range(num_test)])
    if not num_test:
        table = pq.read_table(folder / "train.parquet").slice(0, 0)
        pq.write_table(table, folder / "test.parquet")
    assert f"but they have {num_train} and {num_test}; add images" in both(folder)


BAD = {
    "noise": (b"no picture", "the image must be a complete JPEG, PNG, WEBP, BMP file, but has another format"),
    "cut": (encode(pixels_of(0))[:-60], "the image must be a complete JPEG, PNG, WEBP, BMP file, but is damaged"),
    "empty": (b"", "the image must be stored in `bytes`, but that is empty"),
    "none": (None, "the image must be stored in `bytes`, but that is empty"),
    "other size": (encode(pixels_of(0, 9)), "all images must be 8x8 as the first training image is, but this is 9x9"),
    "large": (encode(np.zeros((8, 513, 3), np.uint8)), "images must be at most 512x512 pixels, but this is 513x8"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "but has another format"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_image_that_cannot_be_used_is_named_with_its_row(folder, case):
    data, words = BAD[case]
    encoded = [encode(pixels_of(i)) for i in range(40)]
    encoded[23] = data
    write(folder / "train.parquet", encoded, [i % 3 for i in range(40)])
    with pytest.raises(DataError) as caught:
        load(folder)
    assert "train.parquet: row 23: " in str(caught.value) and words in str(caught.value)


def test_a_first_image_that_is_not_square_is_refused(folder):
    write(folder / "train.parquet", [encode(np.zeros((8, 9, 3), np.uint8))] * 40, [0, 1, 2, 0] * 10)
    assert "row 0: images must be square, but this is 9x8" in both(folder)


def test_images_that_would_not_fit_in_memory_are_refused_before_they_are_decoded(folder, monkeypatch):
    monkeypatch.setattr(decode, "MAX_DECODED_BYTES", 1000)
    with pytest.raises(DataError, match="decoded images must fit in"):
        load(folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_images_are_described_without_being_decoded():
    assert describe_dataset(f"parquet:{REAL}") == DataShape(32, 10, 45_000, 5000, 10_000)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_labels_of_every_integer_type_are_read(folder, kind):
    write(folder / "test.parquet", [encode(pixels_of(i)) for i in range(3)], [2, 0, 1], label_type=kind)
    assert load(folder).test.labels.tolist() == [2, 0, 1]


def test_a_label_that_no_signed_integer_holds_is_refused(folder):
    write(folder / "test.parquet", [encode(pixels_of(0))] * 3, [0, 1, 2**64 - 1], label_type=pa.uint64())
    assert "test.parquet: row 2: label must be from 0 to K-1, but is 18446744073709551615" in both(folder)


@pytest.mark.parametrize("path", ["~nouser_of_this_name/x", "/" + "a" * 5000])
def test_path_that_cannot_exist_is_refused(path):
    with pytest.raises(DataError, match=r"must be a folder, but: .*; give another path") as caught:
        describe_dataset(f"parquet:{path}")
    assert len(str(caught.value)) < 300
