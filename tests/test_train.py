"""The command train; in a process of its own if exit status and streams matter."""

import re
import signal
import subprocess
import sys

import pytest
from helpers.factories import make_metrics
from rich.console import Console
from typer.testing import CliRunner

from flexres_tune.errors import DataError, SpecError
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.trial import AUGMENTATION_NAMES, OPTIMIZER_NAMES, TRIAL_FIELDS, TrialConfig
from flexres_tune.train import TrialProgress, app
from flexres_tune.trial_options import option_name, read_config

QUICK = ["--model", "tiny", "--dataset", "digits", "--num-threads", "1"]


def run(*args: str, timeout: float = 100) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "flexres_tune.train", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def test_trial_is_trained_saved_and_not_trained_again(tmp_path):
    args = [*QUICK, "--epochs", "3", "--batch-size", "32", "--augmentation", "", "--checkpoint", str(tmp_path / "x.pt")]
    first = run(*args)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    lines = first.stdout.splitlines()
    assert re.match(
        r"tiny, 19,994 parameters, on digits: 1,197 training, 300 validation, 300 test images; .+, (fp32|bf16)$",
        lines[0],
    )
    assert [line.split()[:2] for line in lines[1:4]] == [["epoch", "1/3"], ["epoch", "2/3"], ["epoch", "3/3"]]
    accuracies = re.match(r"validation (\S+)%, test (\S+)% after epoch 3 \(best validation \S+%, epoch \d\)", lines[4])
    assert min(map(float, accuracies.groups())) > 80
    assert re.match(r"19,994 parameters, [\d,]+ images/s, [\d.]+ s of epochs, trial [0-9a-f]{12}-0$", lines[5])

    second = run(*args)
    assert second.returncode == 0
    assert second.stdout.count("(from the checkpoint)") == 3
    assert second.stdout.splitlines()[4:] == lines[4:]


def test_interrupted_trial_says_how_to_resume_and_does(tmp_path):
    args = [
        *QUICK,
        "--epochs",
        "2000",
        "--batch-size",
        "64",
        "--augmentation",
        "",
        "--checkpoint",
        str(tmp_path / "x.pt"),
    ]
    command = [sys.executable, "-m", "flexres_tune.train", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("epoch    1/2000"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    num_epochs = 1 + output.count("epoch")
    epochs = f"{num_epochs} epoch{'s' * (num_epochs > 1)}"
    assert errors == f"interrupted; {tmp_path / 'x.pt'} holds {epochs}: the same command resumes from there\n"

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        lines = [process.stdout.readline() for _ in range(num_epochs + 1)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert ["(from the checkpoint)" in line for line in lines] == [True] * num_epochs + [False]


def test_divergence_is_a_message_and_exit_status_1():
    result = run(*QUICK, "--lr", "1e30", "--lr-schedule", "constant")
    assert result.returncode == 1
    assert re.fullmatch(r"diverged: the training loss is \S+ in epoch 1 at step .*lower lr.*\n", result.stderr)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "tny"], "--model: must be a preset's name .* but got tny; did you mean tiny?"),
        ([], "--model: must be given, or else --blocks and --channels; presets: tiny, small,"),
        (
            ["--model", "tiny", "--checkpoint", "{tmp}", "--dataset", "digits"],
            "{tmp}: cannot be read: must be a regular file, but is a folder",
        ),
        (["--model", "tiny", "--dataset", "digits", "--device", "gpu"], "device must be cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_run_is_a_message_and_exit_status_2(args, message, tmp_path):
    result = run(*(arg.format(tmp=tmp_path) for arg in args))
    assert result.returncode == 2
    assert re.match(message.format(tmp=tmp_path), result.stderr)
    assert "Traceback" not in result.stderr


def test_help_and_wrong_options_do_not_wait_for_torch():
    code = """import sys, flexres_tune.train as train
sys.argv[1:] = {arguments}
try:
    train.main()
except SystemExit:
    print("modules:", {{"torch", "ray"}} & set(sys.modules))"""
    for arguments in (["--help"], ["--model", "tny"]):
        done = subprocess.run([sys.executable, "-c", code.format(arguments=arguments)], capture_output=True, text=True)
        assert done.stdout.endswith("modules: set()\n"), done.stderr


def test_help_has_every_field_and_examples():
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for name in {*TRIAL_FIELDS, *Architecture.model_fields}:
        assert f"{option_name((name,))} " in output
    for name in (*OPTIMIZER_NAMES, *AUGMENTATION_NAMES):
        assert name in output
    assert output.count("python -m flexres_tune.train --") == 4


def read(**texts: str) -> TrialConfig:
    return read_config({"dataset": "digits", **texts}, max_parameters=5_000_000)[0]


def test_options_are_read_as_the_fields_they_name():
    config = read(
        model="tiny",
        lr="1e-3",
        batch_size="64",
        augmentation="crop",
        normalize="false",
        seed="7",
        num_train_images="1_000",
    )
    expected = {"lr": 1e-3, "batch_size": 64, "augmentation": ["crop"], "normalize": False, "num_train_images": 1000}
    assert config == TrialConfig(model="tiny", dataset="digits", seed=7, **expected)
    assert read(model="tiny", augmentation="").augmentation == ()


def test_architecture_is_changed_or_made_by_its_options():
    changed = read(model="tiny", channels="8,16", head="32", dropout="0.1,0.2").model
    assert (changed.blocks, changed.channels, changed.head, changed.dropout) == ((1, 1), (8, 16), (32,), (0.1, 0.2))
    made = read(blocks="2", channels="8", kernel_size="[[1, 5]]", pool_size="8").model
    assert made == Architecture(blocks=[2], channels=[8], kernel_size=[[1, 5]], pool_size=8)


def test_every_problem_is_reported_at_once_at_its_option():
    with pytest.raises(SpecError) as caught:
        read(blocks="3,3", channels="16", lr="-1", optimizer="adm", epochs="2.5", augmentation="crp")
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "--lr",
        "--optimizer",
        "--epochs",
        "--augmentation",
        "--model",
    ]
    assert "--lr: must be > 0, but got -1" in lines[0]
    assert "did you mean adam?" in lines[1]
    assert "channels must have one entry for each of the 2 layers" in lines[4]


def test_model_over_the_budget_is_refused_with_its_heaviest_layer():
    with pytest.raises(
        SpecError, match=r"--model: .*max_parameters=1,000, but tiny has 19,994, .* in layer2\.0\.conv2"
    ):
        read_config({"model": "tiny", "dataset": "digits"}, max_parameters=1_000)


def test_missing_data_set_is_reported_before_torch_is_imported():
    with pytest.raises(DataError, match="nowhere"):
        read(model="tiny", dataset="parquet:nowhere")


def test_bar_shows_steps_and_time_left_on_a_terminal():
    console = Console(force_terminal=True, width=150, record=True)
    with TrialProgress(2, 4, console) as progress:
        progress.epoch(make_metrics())  # without steps: from a checkpoint
        progress.step()
        progress.step()
    text = console.export_text()
    assert "epoch 1/2" in text
    assert "(from the checkpoint)" in text
    assert "75%" in text
    assert "left" in text
