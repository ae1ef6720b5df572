"""A trial as files for other programs: model.safetensors, config.json, load_model.py and model.onnx, checked."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import math
import runpy
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.errors import CheckpointError, StorageError, describe_os_error
from flexres_tune.export.network import Normalised, load_network
from flexres_tune.export.trained import TrainedTrial
from flexres_tune.models import ResNet, blocks
from flexres_tune.spec import Architecture, list_layers
from flexres_tune.spec.own_code.model import OwnModel
from flexres_tune.spec.parameters import EXPANSION, IMAGE_CHANNELS
from flexres_tune.storage import atomic_write, atomic_write_bytes, atomic_write_text

# Largest permitted difference between a logit of an exported file and of the trained model, per size of the largest
# logit of the batch, at least 1: logits of a network that was trained badly may have five digits before the point.
TOLERANCE = 1e-4
_BATCH = 250  # images per forward pass of the check
_LOADER = '''\
"""load_model()(images (B, 3, {size}, {size}) in [0, 1]) -> logits (B, {classes}); needs only torch and safetensors."""
import json, pathlib, runpy, torch
from safetensors.torch import load_file
def load_model(folder=pathlib.Path(__file__).parent):
    config = json.loads((folder / "config.json").read_text())
    model = runpy.run_path(str(folder / "network.py"))["build"](config).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    model.register_forward_pre_hook(lambda _, images: ((images[0] - mean) / std,))
    return model
'''
_RESNET = '''\
"""The network of config.json: build(config) -> torch module with new weights."""
{imports}
EXPANSION, IMAGE_CHANNELS = {expansion}, {image_channels}


{blocks}

{resnet}

def build(config):
    """A new network of the exported shape."""
    return ResNet(SimpleNamespace(**config["architecture"]), len(config["class_names"]), config["num_features"])
'''
_OWN = '''\
"""The network of config.json, built by the code in code/: build(config) -> torch module with new weights."""
import importlib, pathlib, sys
def build(config):
    """A new network of the exported shape; imports {target}."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "code"))
    try:
        builder = getattr(importlib.import_module({module!r}), {name!r})
    finally:
        del sys.path[0]
    return builder(**config["arguments"])
'''


@dataclass(frozen=True)
class Check:
    """What was measured on the exported files."""

    split: str  # val, or test if no validation images are held out
    num_images: int  # of it
    largest_difference: float  # of any logit, ONNX Runtime against torch
    accuracy: float  # of the exported weights on them, fraction


def export_trial(best: TrainedTrial, sweep: str, out: Path) -> Check:
    """Write the four files, check them on the validation images, and move them into `out` if they are right.

    An older export in `out` stays as it is unless everything succeeds: its files and new ones would not fit together.

    Raises:
        CheckpointError: the checkpoint is not the trial's last, or an exported file would give other logits than the
            trained model.
        DataError: the data set's images, which the check needs, are missing.
        ResultsError: `out` cannot be written.
    """
    loaded = load_network(best)
    network, data, model = loaded.network, loaded.data, loaded.normalised
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export_", dir=out) as folder:
            new = Path(folder)
            _write_weights(network, new / "model.safetensors")
            description = _description(best, sweep, data, model)
            atomic_write_text(new / "config.json", json.dumps(description, indent=1) + "\n")
            _write_network(best.config.model, new)
            atomic_write_text(new / "load_model.py", _LOADER.format(size=data.image_size, classes=data.num_classes))
            _write_onnx(model, data, new / "model.onnx")
            check = _check(model, data, new)
            shutil.rmtree(out / "code", ignore_errors=True)
            for path in sorted(new.glob("[!.]*")):
                if path.name != "__pycache__":
                    path.replace(out / path.name)
        return check
    except StorageError as error:
        raise StorageError(f"{out}: cannot be written: {error.reason}", error.reason) from error
    except OSError as error:
        reason = describe_os_error(error)
        raise StorageError(f"{out}: cannot be written: {reason}", reason) from error


def _description(best: TrainedTrial, sweep: str, data: ImageData, model: Normalised) -> dict[str, Any]:
    row = best.row
    shape = (data.num_classes, data.image_size)
    architecture = best.config.model
    if isinstance(architecture, OwnModel):
        network = {"code": architecture.name, "arguments": architecture.arguments(*shape)}
    else:
        pool = next(layer for layer in list_layers(architecture, *shape) if layer.name == "pool")
        network = {"architecture": architecture.model_dump(mode="json"), "num_features": math.prod(pool.shape)}
    measured = ("best_val_accuracy", "last_val_accuracy", "test_accuracy", "num_parameters", "git_commit", "versions")
    return {
        "sweep": sweep,
        "trial_id": row["trial_id"],
        "stage": row["stage"],
        **network,
        "image_size": data.image_size,
        "class_names": list(data.class_names),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "training": {name: value for name, value in best.config.to_dict().items() if name != "code"},
        "measured": {name: row[name] for name in measured},
    }


def _write_network(model: Architecture | OwnModel, folder: Path) -> None:
    """network.py, which needs no flexres_tune: our source of the ResNet, or a call of the own code copied to code/."""
    if not isinstance(model, OwnModel):
        imports, body = inspect.getsource(blocks).split("from flexres_tune.spec.parameters import EXPANSION\n")
        imports = imports.split("from __future__ import annotations\n")[1].strip()
        text = _RESNET.format(
            imports=f"from __future__ import annotations\n\n{imports}\nfrom types import SimpleNamespace\n",
            expansion=EXPANSION,
            image_channels=IMAGE_CHANNELS,
            blocks=body.strip() + "\n",
            resnet=inspect.getsource(ResNet).replace("architecture: Architecture", "architecture: SimpleNamespace"),
        )
        return atomic_write_text(folder / "network.py", text)
    source = model.code.source
    for name, content in source.files:
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "code" / name, content)
    place, _, name = source.target.rpartition(":")
    module = place.removesuffix(".py").replace("/", ".")
    return atomic_write_text(folder / "network.py", _OWN.format(target=source.target, module=module, name=name))


def _write_weights(network: nn.Module, path: Path) -> None:
    from safetensors.torch import save

    # save_file() would create a file that only its owner can read.
    atomic_write_bytes(path, save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))


def _write_onnx(model: nn.Module, data: ImageData, path: Path) -> None:
    example = _checked_images(data).images[:2].float() / 255
    mean, std = model.mean.flatten(), model.std.flatten()  # which the graph itself subtracts and divides by
    with atomic_write(path) as temporary, _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
        metadata = {"class_names": list(data.class_names), "mean": mean.tolist(), "std": std.tolist()}
        for key, value in metadata.items():
            program.model.metadata_props[key] = json.dumps(value)
        program.save(temporary, external_data=False)


@torch.inference_mode()
def _check(model: nn.Module, data: ImageData, out: Path) -> Check:
    """All validation images, or the test images if none are held out, through torch, the written loader and ONNX Runtime."""
    import onnxruntime

    loaded = runpy.run_path(str(out / "load_model.py"))["load_model"](out)
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    largest, num_correct = {"load_model.py": 0.0, "model.onnx": 0.0}, 0
    split = _checked_images(data)
    for images, labels in zip(split.images.split(_BATCH), split.labels.split(_BATCH), strict=True):
        images = images.float() / 255  # (B, 3, H, W)
        logits = model(images)  # (B, classes)
        permitted = TOLERANCE * max(1.0, logits.abs().max().item())
        others = {
            "load_model.py": loaded(images),
            "model.onnx": torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0]),
        }
        for name, theirs in others.items():
            difference = (theirs - logits).abs().max().item()
            largest[name] = max(largest[name], difference)
            if not difference <= permitted:
                raise CheckpointError(
                    f"{name}: its logits must be within {permitted:.3g} of the trained model's, but differ by "
                    f"{difference:.3g}; nothing was written"
                )
        num_correct += (logits.argmax(1) == labels).sum().item()
    return Check("val" if len(data.val) else "test", len(split), largest["model.onnx"], num_correct / len(split))


def _checked_images(data: ImageData) -> Split:
    return data.val if len(data.val) else data.test


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress of torch.onnx and its warnings, which a user cannot act on."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
