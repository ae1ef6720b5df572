"""`image_folder:PATH`: folders of classes as torchvision reads them, divided or not, and broken ones."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import FakeData, ImageFolder

from flexres_tune.datasets import DataShape, decode, describe_dataset, images, load_dataset
from flexres_tune.errors import DataError

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow")
SIZES = {"train": 40, "val": 9, "test": 6}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "cache"))
    images.load_whole.cache_clear()
    return tmp_path / "cache"


def write_images(folder, count, seed=0, size=(8, 8), suffix="png"):
    """`count` images of torchvision's FakeData, in the folders of their classes."""
    source = FakeData(count, (3, *size), num_classes=3, random_offset=seed)
    for i in range(count):
        image, _ = source[i]
        path = folder / CLASSES[i % 3] / f"{i:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


@pytest.fixture
def divided(tmp_path):
    for seed, (split, count) in enumerate(SIZES.items()):
        write_images(tmp_path / "set" / split, count, seed)
    return tmp_path / "set"


@pytest.fixture
def whole(tmp_path):
    write_images(tmp_path / "set", 60)
    return tmp_path / "set"


def both(name):
    """The message of loading and of describing, which must be the same."""
    with pytest.raises(DataError) as loading:
        load_dataset(name, CPU)
    with pytest.raises(DataError) as describing:
        describe_dataset(name)
    assert str(loading.value) == str(describing.value)
    return str(loading.value)


def test_a_divided_folder_is_read_as_torchvision_reads_it(divided):
    name = f"image_folder:{divided}"
    data = load_dataset(name, CPU)
    assert describe_dataset(name) == DataShape(8, 3, num_train=40, num_val=9, num_test=6)
    assert data.class_names == CLASSES
    for split in SIZES:
        expected, found = ImageFolder(divided / split), getattr(data, split)
        assert expected.targets == found.labels.tolist()
        for (image, _), pixels in zip(expected, found.images, strict=True):
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), pixels.numpy())


def test_without_a_folder_of_validation_images_a_tenth_of_the_training_images_is_held_out(divided):
    shutil.rmtree(divided / "val")
    data = load_dataset(f"image_folder:{divided}", CPU)
    assert [len(split) for split in (data.train, data.val, data.test)] == [36, 4, 6]


def test_one_folder_is_divided_in_the_same_way_wherever_it_lies(whole, tmp_path):
    first = load_dataset(f"image_folder:{whole}", CPU)
    assert [len(split) for split in (first.train, first.val, first.test)] == [49, 5, 6]
    known = {np.asarray(image).transpose(2, 0, 1).tobytes(): label for image, label in ImageFolder(whole)}
    for split in (first.train, first.val, first.test):
        assert [known.pop(image.numpy().tobytes()) for image in split.images] == split.labels.tolist()
    assert not known  # each once
    moved = shutil.copytree(whole, tmp_path / "moved")
    second = load_dataset(f"image_folder:{moved}", CPU)
    assert torch.equal(first.test.images, second.test.images) and torch.equal(first.val.images, second.val.images)


def test_a_second_process_does_not_decode_again_unless_a_file_has_changed(whole, monkeypatch):
    load_dataset(f"image_folder:{whole}", CPU)
    images.load_whole.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("flexres_tune.datasets.image_folder.decode_images", lambda *_: pytest.fail("decoded again"))
        load_dataset(f"image_folder:{whole}", CPU)
    images.load_whole.cache_clear()
    path = next(whole.rglob("*.png"))
    Image.new("RGB", (8, 8), "red").save(path)
    os.utime(path, (1, 1))
    data = load_dataset(f"image_folder:{whole}", CPU)
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1)
    splits = (data.train, data.val, data.test)
    assert sum(int((split.images == red).all(dim=(1, 2, 3)).sum()) for split in splits) == 1


def test_images_of_all_shapes_are_resized(divided):
    shapes = {(20, 10): "L", (9, 31): "RGB", (200, 300): "CMYK", (8, 8): "RGBA"}
    for i, (size, mode) in enumerate(shapes.items()):
        file = divided / "train" / "ant" / f"new{i}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new("RGB", size, (0, 0, 250)).convert(mode).save(file)
    for resize in ("16", "16+center"):
        data = load_dataset(f"image_folder:{divided}?resize={resize}", CPU)
        assert data.train.images.shape == (44, 3, 16, 16) and data.image_size == 16
    assert describe_dataset(f"image_folder:{divided}?resize=16").image_size == 16


def test_crop_keeps_the_middle_and_no_crop_stretches(divided):
    bars = np.zeros((10, 30, 3), np.uint8)
    bars[:, 10:20] = 255  # black, white, black
    Image.fromarray(bars).save(divided / "train" / "ant" / "zzz.png")
    found = {}
    for resize in ("10", "10+center"):
        data = load_dataset(f"image_folder:{divided}?resize={resize}", CPU)
        (row,) = (i for i, path in enumerate(ImageFolder(divided / "train").samples) if path[0].endswith("zzz.png"))
        found[resize] = data.train.images[row, 0].float().mean(0)
    assert found["10+center"].min() == 255
    assert found["10"][0] == 0 and found["10"][5] > 200 and found["10"][9] == 0


def test_a_photograph_is_turned_upright_and_decoded_at_a_fraction_of_its_size(divided):
    photo = Image.new("RGB", (2400, 1200), "black")
    photo.paste("white", (0, 0, 1200, 1200))  # left half
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was turned: left is up
    photo.save(divided / "train" / "ant" / "zzz.jpg", exif=exif)
    data = load_dataset(f"image_folder:{divided}?resize=8", CPU)
    (row,) = (i for i, path in enumerate(ImageFolder(divided / "train").samples) if path[0].endswith("zzz.jpg"))
    assert data.train.images[row, 0, 0].min() > 240 and data.train.images[row, 0, -1].max() < 15


def test_without_test_images_none_are_needed(divided):
    shutil.rmtree(divided / "test")
    assert "must have a folder test beside train, but has train and val; add it, or write test: none" in both(
        f"image_folder:{divided}"
    )
    assert describe_dataset(f"image_folder:{divided}?test=none") == DataShape(8, 3, 40, 9, 0)
    assert len(load_dataset(f"image_folder:{divided}?test=none", CPU).test) == 0


def test_without_test_images_one_folder_is_divided_in_two(whole):
    data = load_dataset(f"image_folder:{whole}?test=none", CPU)
    assert [len(split) for split in (data.train, data.val, data.test)] == [54, 6, 0]


def test_a_link_to_a_folder_above_ends(whole):
    (whole / "ant" / "again").symlink_to(whole)
    shape = describe_dataset(f"image_folder:{whole}")
    assert shape.num_train + shape.num_val + shape.num_test == 60 + 40  # those of bee and cow have two names


def test_files_that_are_no_images_are_left_alone(whole):
    (whole / "ant" / ".DS_Store").write_text("")
    (whole / "ant" / "notes.txt").write_text("")
    assert describe_dataset(f"image_folder:{whole}") == DataShape(8, 3, 49, 5, 6)


def break_nothing(root):
    return root / "nowhere"


def break_file(root):
    return root / "train" / "ant" / "000.png"


def break_one_class(root):
    return root / "train" / "ant"


def break_empty_class(root):
    (root / "train" / "dog").mkdir()
    return root


def break_strange_class(root):
    write_images(root / "test" / "more", 3)
    return root


def break_format(root):
    (root / "train" / "bee" / "x.gif").write_bytes(b"GIF89a")
    return root


def break_few(root):
    for folder in (root / "train").iterdir():
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    return root


def break_two_names(root):
    shutil.copytree(root / "val", root / "validation")
    return root


BROKEN = {
    break_nothing: "must be a folder with a folder per class, but there is no such folder",
    break_file: "must be a folder with a folder per class, but it is a file",
    break_one_class: "must have a folder per class, at least two, but has none",
    break_empty_class: "train/dog: must have images, because a folder here is a class, but has none",
    break_strange_class: "must have the classes of train, but also has more",
    break_format: "x.gif: images must be .bmp, .jpeg, .jpg, .png, .webp files, but this is .gif; convert or remove it",
    break_few: "must have at least 10 images, but has 3",
    break_two_names: "must have one folder of a split, but has val and validation",
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_folder_of_another_form_is_refused(damage, divided):
    assert BROKEN[damage] in both(f"image_folder:{damage(divided)}")


@pytest.mark.parametrize("path", ["~nouser_of_this_name/x", "/" + "a" * 5000])
def test_a_path_that_cannot_exist_is_refused(path):
    assert "must be a folder with a folder per class, but" in both(f"image_folder:{path}")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "must be stored in"), (b"no image", "has another format"), (None, "is damaged")]
)
def test_an_image_that_cannot_be_decoded_is_named(divided, content, words):
    path = divided / "test" / "cow" / "002.png"
    path.write_bytes(path.read_bytes()[:-60] if content is None else content)
    with pytest.raises(DataError, match=rf"test/cow/002\.png: .*{words}"):
        load_dataset(f"image_folder:{divided}", CPU)


def test_images_of_other_sizes_are_refused_with_the_key_that_resizes_them(divided):
    write_images(divided / "test", 6, size=(9, 8))
    with pytest.raises(DataError, match=r"all images must be 8x8 .* but this is 8x9; write resize: \{size: 32, crop"):
        load_dataset(f"image_folder:{divided}", CPU)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(divided, monkeypatch):
    monkeypatch.setattr(decode, "_MAX_PIXELS", 63)
    with pytest.raises(DataError, match="images must have at most 63 pixels, but this is 8x8"):
        load_dataset(f"image_folder:{divided}?resize=4", CPU)


@pytest.mark.parametrize("option", ["resize=0", "resize=513", "resize=a", "resize=8+middle", "test=some"])
def test_options_of_another_form_are_refused(divided, option):
    both(f"image_folder:{divided}?{option}")
