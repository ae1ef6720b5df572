"""sweeps/published/: one file a published table, one configuration a published row, and all of it can be trained."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from flexres_tune.analysis.published import REPORTS, published_rows, references, rows_of, varied_settings
from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.models import build_model
from flexres_tune.spec import PRESETS, expand_trials, load_sweep
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training import Execution, fit

FOLDER = Path(__file__).parents[1] / "sweeps/published"
JPEG = Path(__file__).parents[2] / "shared/data/cifar10-jpeg/test.parquet"
ARCHITECTURES = [name for name in PRESETS if name not in ("tiny", "small")]
EXECUTION = Execution(torch.device("cpu"), "fp32", compile=False, channels_last=True)


def sweep_of(reference, profile="none"):
    return load_sweep(FOLDER / f"{reference}.yaml", profile=profile)


def configs_of(reference, profile="none"):
    return [trial.config for trial in expand_trials(sweep_of(reference, profile), describe_dataset)]


def test_there_is_one_file_for_each_published_table():
    files = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml")}
    assert files == set(references())


@pytest.mark.parametrize("reference", references())
def test_file_says_what_it_reproduces_and_has_a_name_of_its_own(reference):
    spec = sweep_of(reference)
    assert spec.reproduces == reference
    assert spec.name == reference.replace("/", "-")
    assert spec.early_terminate.type == "none" and spec.max_parameters == 5_000_000
    assert spec.resolved()["reproduces"] == reference


@pytest.mark.parametrize("row", published_rows(), ids=lambda row: f"{row.reference}-{row.model}-{row.test_accuracy}")
def test_each_published_row_is_exactly_one_configuration(row):
    agreeing = [config for config in configs_of(row.reference) if not row.differing(config.columns())]
    assert len(agreeing) == 1
    assert not row.has_other_length(agreeing[0].epochs)
    assert agreeing[0].dataset == "cifar10" and agreeing[0].num_train_images is None


@pytest.mark.parametrize("reference", references())
def test_no_file_holds_more_than_its_table(reference):
    assert len(configs_of(reference)) == len(rows_of(reference))


@pytest.mark.parametrize("reference", references())
def test_laptop_profile_asks_what_the_file_asks(reference):
    """As many configurations, different in the same settings; models may be replaced by smaller ones that fit 8x8 images."""
    rows, configs = rows_of(reference), configs_of(reference, "laptop")
    assert len(configs) == len(rows)
    for name in varied_settings(rows):
        stated = [str(row.settings[name]) for row in rows if name in row.settings]
        column = "channels" if name == "model" else name
        ours = [str(config.columns()[column]) for config in configs]
        if name in ("model", "dropout"):
            assert len(set(ours)) >= 1
            shapes = {config.model.model_copy(update={"dropout": ()}) for config in configs}
            assert name != "model" or len(shapes) == len(set(stated))
        else:
            assert sorted(ours) == sorted(stated)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads that wait for each other on busy cores cost these small kernels ten times as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def eight_images():
    """The first eight test images, JPEG re-encodings of CIFAR-10's; if they are missing, eight of noise."""
    if JPEG.exists():
        import pyarrow.parquet as pq
        from PIL import Image

        rows = next(pq.ParquetFile(JPEG).iter_batches(batch_size=8)).to_pylist()
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows])
        labels = [row["label"] for row in rows]
    else:
        pixels, labels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8), list(range(8))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    split = Split(images, torch.tensor(labels))
    few = Split(images[:2], split.labels[:2])
    moments = images.float().div(255).transpose(0, 1).flatten(1)
    names = tuple(map(str, range(10)))
    return ImageData("eight", split, few, few, 10, names, 32, moments.mean(1), moments.std(1))


def test_all_27_architectures_are_there():
    assert len(ARCHITECTURES) == 27


@pytest.mark.slow  # 20 s of a quiet CPU, a minute of a busy one
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_trains_one_step_and_has_the_reports_count(name, eight_images):
    config = TrialConfig(model=name, batch_size=8, epochs=1, augmentation=("crop", "flip", "rotation"))
    (metrics,) = fit(config, eight_images, EXECUTION)
    assert np.isfinite([metrics.train_loss, metrics.val_loss]).all()
    assert metrics.test_accuracy is not None
    num_parameters = sum(weights.numel() for weights in build_model(name).parameters() if weights.requires_grad)
    assert num_parameters == PRESETS[name]["num_parameters"]


@pytest.mark.parametrize("report", REPORTS)
def test_one_trial_of_each_report_trains_for_one_epoch(report):
    config = configs_of(f"{report}/best", "laptop")[0]
    data = load_dataset(config.dataset, EXECUTION.device)
    metrics = next(fit(config, data, EXECUTION))
    assert metrics.epoch == 1
    assert 0 < metrics.val_accuracy <= 1
    assert np.isfinite(dataclasses.astuple(metrics)[1:5]).all()
