import ast
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from flexres_tune.errors import CheckpointError
from flexres_tune.storage import list_folder, make_path
from flexres_tune.training import checkpoint
from flexres_tune.training.checkpoint import (
    KEYS,
    Checkpointer,
    DamagedCheckpointError,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

PAYLOAD = {**dict.fromkeys(KEYS, 0), "trial_id": "abc-0", "precision": "bf16", "model": {"weight": torch.arange(3.0)}}


def test_what_is_saved_is_loaded(tmp_path):
    file = tmp_path / "deep" / "er" / "x.pt"
    save_checkpoint(file, PAYLOAD)
    loaded = load_checkpoint(file, "abc-0")
    assert torch.equal(loaded.pop("model")["weight"], torch.arange(3.0))
    assert loaded == {key: value for key, value in PAYLOAD.items() if key != "model"}


def test_failed_write_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "x.pt"
    save_checkpoint(file, PAYLOAD)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"x\.pt: cannot be written: .*No space left.*free some space"):
        save_checkpoint(file, {**PAYLOAD, "epoch": 9})
    assert load_checkpoint(file, "abc-0")["epoch"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_file_with_code_in_it_is_damaged_and_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "x.pt").write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(DamagedCheckpointError, match=r"x\.pt: is damaged"):
        load_checkpoint(tmp_path / "x.pt", "abc-0")
    torch.save({"format": 1, "model": Code()}, tmp_path / "y.pt")
    with pytest.raises(DamagedCheckpointError, match=r"y\.pt: is damaged.*; delete it") as caught:
        load_checkpoint(tmp_path / "y.pt", "abc-0")
    assert "weights_only" not in str(caught.value), "torch's advice would execute what is in the file"
    assert not (tmp_path / "executed").exists()


def test_no_file_of_the_package_reads_pickled_code():
    package = Path(checkpoint.__file__).parents[1]
    calls = [
        ast.unparse(node)
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and re.search(r"\b(pickle|joblib|torch|np|numpy)\.loads?$", ast.unparse(node.func))
    ]
    assert calls, "checkpoints and cached images are read"
    assert all("weights_only=True" in call or "allow_pickle=False" in call for call in calls), calls


@pytest.mark.parametrize("large", [torch.zeros(1).expand(1 << 40), [{"a": torch.zeros(1).expand(1 << 20)}]])
def test_tensor_that_is_larger_than_the_file_is_damage(tmp_path, large):
    torch.save({**PAYLOAD, "format": 1, "generators": large}, tmp_path / "x.pt")
    with pytest.raises(DamagedCheckpointError, match=r"x\.pt: is damaged"):
        load_checkpoint(tmp_path / "x.pt", "abc-0")


def test_compressed_archive_is_damage_and_is_not_unpacked(tmp_path):
    torch.save({**PAYLOAD, "format": 1, "model": {"weight": torch.zeros(1 << 20)}}, tmp_path / "x.pt")
    compressed = zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "x.pt") as plain, compressed:
        for name in plain.namelist():
            compressed.writestr(name, plain.read(name))
    with pytest.raises(DamagedCheckpointError, match=r"y\.pt: is damaged"):
        load_checkpoint(tmp_path / "y.pt", "abc-0")


@pytest.mark.parametrize("content", [[1, 2], {"format": 1}, {**PAYLOAD, "format": 2}, PAYLOAD])
def test_other_content_is_not_a_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(DamagedCheckpointError, match=r"x\.pt: is not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "x.pt", "abc-0")


def test_folder_in_the_checkpoints_place_is_refused_and_not_taken_for_damage(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_checkpoint(tmp_path, "abc-0")
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_checkpoint_on_object_storage_is_one_object(bucket):
    file = make_path("s3://bucket/results/demo/checkpoints/x.pt")
    assert not has_checkpoint(file)
    save_checkpoint(file, PAYLOAD)
    assert has_checkpoint(file) and list(list_folder(file.parent)) == ["x.pt"]
    assert load_checkpoint(file, "abc-0")["trial_id"] == "abc-0"
    file.write_bytes(b"half")
    with pytest.raises(DamagedCheckpointError, match=r"s3://bucket/results/demo/checkpoints/x\.pt: is damaged"):
        load_checkpoint(file, "abc-0")


def test_server_that_is_away_keeps_the_old_checkpoint_and_is_waited_for(bucket, monkeypatch):
    file = make_path("s3://bucket/results/x.pt")
    save_checkpoint(file, PAYLOAD)
    bucket.go_away()
    with pytest.raises(CheckpointError, match=r"s3://bucket/results/x\.pt: cannot be written: AWS does not answer"):
        save_checkpoint(file, {**PAYLOAD, "epoch": 9})
    slept = []
    monkeypatch.setattr(checkpoint.time, "sleep", lambda s: slept.append(s) or len(slept) < 3 or bucket.come_back())
    assert has_checkpoint(file) and load_checkpoint(file, "abc-0")["epoch"] == 0
    assert slept == [checkpoint.OUTAGE_RETRY_S] * 3


def test_server_that_stays_away_fails_the_trial_and_does_not_restart_it(bucket, monkeypatch):
    bucket.go_away()
    monkeypatch.setattr(checkpoint, "OUTAGE_S", -1)
    for ask in (has_checkpoint, lambda file: load_checkpoint(file, "abc-0")):
        with pytest.raises(CheckpointError, match="does not answer") as caught:
            ask(make_path("s3://bucket/x.pt"))
        assert not isinstance(caught.value, DamagedCheckpointError)


def test_file_of_an_older_version_says_no_precision_and_another_one_is_damaged(tmp_path):
    old = {key: value for key, value in PAYLOAD.items() if key != "precision"}
    torch.save({**old, "format": 1}, tmp_path / "x.pt")
    assert Checkpointer(tmp_path / "x.pt").precision("abc-0") is None
    save_checkpoint(tmp_path / "x.pt", PAYLOAD)
    assert Checkpointer(tmp_path / "x.pt").precision("abc-0") == "bf16"
    save_checkpoint(tmp_path / "x.pt", {**PAYLOAD, "precision": "fp8"})
    with pytest.raises(DamagedCheckpointError, match=r"x\.pt: is damaged: its precision"):
        load_checkpoint(tmp_path / "x.pt", "abc-0")


@pytest.mark.parametrize("epoch", ["a" * 100_000, None, 1.5, True])
def test_epoch_that_is_no_whole_number_is_damage(tmp_path, epoch):
    torch.save({**PAYLOAD, "epoch": epoch, "format": 1}, tmp_path / "x.pt")
    with pytest.raises(DamagedCheckpointError, match=r"x\.pt: is damaged: its epoch must be a whole number"):
        load_checkpoint(tmp_path / "x.pt", "abc-0")
