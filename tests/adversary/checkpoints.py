"""Attacks on checkpoints: changed bytes, pickles that call functions, and states that do not fit."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from adversary.attack import CANARY, Call, Place, export
from adversary.tables import EVIL_FLOATS, EVIL_NUMBERS, EVIL_TEXTS, change_bytes
from adversary.template import make_state
from flexres_tune.training.checkpoint import Checkpointer, load_checkpoint


class _Executes:
    """Unpickled by pickle, it writes a file."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def damage_checkpoints(chance: random.Random, place: Place) -> Iterator[Call]:
    """A checkpoint is read as plain data, refused, or not used."""
    path = chance.choice(sorted(place.results.glob("alpha/checkpoints/*.pt")))
    content = path.read_bytes()
    for _ in range(6):
        kind = chance.choice(["bytes"] * 20 + ["values"] * 20 + ["pickle"] * 10 + ["bomb"])
        if kind == "bytes":
            path.write_bytes(change_bytes(chance, content))
        elif kind == "values":
            torch.save(_change(chance, torch.load(io.BytesIO(content), weights_only=True)), path)
        elif kind == "pickle":
            path.write_bytes(_pickle(chance, content))
        else:
            path.write_bytes(_bomb(content))
        yield Call(f"load a checkpoint ({kind})", lambda: load_checkpoint(path, path.stem))
        yield Call(f"restore a checkpoint ({kind})", lambda: Checkpointer(path).restore(lambda: make_state(path.stem)))
        if chance.random() < 0.1:
            yield export(chance, place)
        yield Call("look for the canary", lambda: _check_not_executed(place))


def _check_not_executed(place: Place) -> None:
    assert not (place.folder / CANARY).exists(), "a checkpoint was executed"


def _change(chance: random.Random, payload: dict) -> dict:
    """The payload with another value somewhere in it."""
    here, key = payload, chance.choice(list(payload))
    while isinstance(here[key], dict | list) and here[key] and chance.random() < 0.8:
        here = here[key]
        key = chance.choice(list(here)) if isinstance(here, dict) else chance.randrange(len(here))
    if isinstance(here, dict) and chance.random() < 0.2:
        del here[key]
    else:
        here[key] = chance.choice([*EVIL_NUMBERS, *EVIL_FLOATS, *EVIL_TEXTS[:10], None, [], {}, *_tensors()])
    return payload


def _tensors() -> list[torch.Tensor]:
    return [
        torch.tensor([]),
        torch.tensor(float("nan")),
        torch.zeros(1).expand(1 << 40),
        torch.zeros(3, dtype=torch.uint8),
        torch.sparse_coo_tensor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(0), (1 << 30,), check_invariants=True),
        torch.zeros(2, dtype=torch.complex64),
    ]


def _pickle(chance: random.Random, content: bytes) -> bytes:
    """A pickle that runs a command: alone, in torch's old format, or inside a checkpoint's archive."""
    evil = pickle.dumps({"format": 1, "model": _Executes()}, protocol=chance.choice([0, 2, 4]))
    if chance.random() < 0.4:
        return evil
    if chance.random() < 0.3:
        return pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) + evil * 2
    return _rewrite(content, evil)


def _bomb(content: bytes) -> bytes:
    """An archive of kilobytes in which one tensor unpacks to two gigabytes."""
    return _rewrite(content, None)


def _rewrite(content: bytes, pickled: bytes | None) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as changed:
        for name in source.namelist():
            data = source.read(name)
            if pickled is not None and Path(name).name == "data.pkl":
                data = pickled
            if pickled is None and Path(name).name == "0":
                data = bytes(200 << 20)
            changed.writestr(name, data)
    return target.getvalue()
