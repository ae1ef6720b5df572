import os
import pickle

import pytest
import torch

from flexres_tune.errors import CheckpointError
from flexres_tune.training.checkpoint import KEYS, DamagedCheckpointError, load_checkpoint, save_checkpoint

PAYLOAD = {**dict.fromkeys(KEYS, 0), "trial_id": "abc-0", "model": {"weight": torch.arange(3.0)}}


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
    with pytest.raises(CheckpointError, match=r"x\.pt: cannot be written: .*No space left.*free the disk"):
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
    with pytest.raises(DamagedCheckpointError, match=r"y\.pt: is damaged"):
        load_checkpoint(tmp_path / "y.pt", "abc-0")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"format": 1}, {**PAYLOAD, "format": 2}, PAYLOAD])
def test_other_content_is_not_a_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(DamagedCheckpointError, match=r"x\.pt: is not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "x.pt", "abc-0")


def test_folder_in_the_checkpoints_place_is_refused_and_not_taken_for_damage(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_checkpoint(tmp_path, "abc-0")
    assert not isinstance(caught.value, DamagedCheckpointError)
