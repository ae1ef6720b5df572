import pytest
import torch

from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training import Execution


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Kernels this small are faster in one thread: on busy cores, waiting for other threads takes ten times longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def execution() -> Execution:
    return Execution(torch.device("cpu"), "fp32", compile=False, channels_last=True)


@pytest.fixture(scope="session")
def data() -> ImageData:
    """Three classes of 8x8 images: bright left, bright top, bright centre; 37 to train on, so no batch size divides."""
    generator = torch.Generator().manual_seed(0)

    def split(num_images: int) -> Split:
        labels = torch.arange(num_images) % 3
        patterns = torch.zeros(3, 1, 8, 8)
        patterns[0, :, :, :4] = patterns[1, :, :4] = patterns[2, :, 2:6, 2:6] = 120
        noise = torch.randint(0, 100, (num_images, 3, 8, 8), generator=generator)
        return Split((patterns[labels] + noise).to(torch.uint8), labels)

    train = split(37)
    pixels = train.images.float().div(255).transpose(0, 1).flatten(1)
    names = ("left", "top", "centre")
    return ImageData("patterns", train, split(21), split(24), 3, names, 8, pixels.mean(1), pixels.std(1))


@pytest.fixture
def make_config():
    """Makes a trial of a few hundred parameters, with every feature that has a state or is random."""

    def make(**fields) -> TrialConfig:
        fields = {
            "model": {"blocks": [1, 1], "channels": [4, 8], "pool_size": 2, "head": [8], "dropout": 0.2},
            "dataset": "digits",  # not read: the tests pass `data`
            "optimizer": "nesterov",
            "lr": 0.05,
            "batch_size": 8,
            "epochs": 4,
            "mixup_alpha": 0.4,
            "label_smoothing": 0.1,
            "warmup_epochs": 0.5,
            **fields,
        }
        return TrialConfig.model_validate(fields)

    return make


@pytest.fixture
def bf16(monkeypatch):
    """Function that says whether devices multiply bfloat16 in hardware, and whether GPUs have TF32."""

    def set_support(supported: bool, tf32: bool = False) -> None:
        monkeypatch.setattr("flexres_tune.training.execution.has_fast_bf16", lambda device: supported)
        monkeypatch.setattr("flexres_tune.training.execution.has_tf32", lambda device: tf32 and device.type == "cuda")
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")

    return set_support
