"""The budget command on its command line."""

import csv
import io
import json
import re
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from flexres_tune.budget import app
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.spec import PRESETS, count_flops, count_parameters, expand_trials, load_sweep
from flexres_tune.spec.width import widest


def run(*args):
    """The text printed; errors come through as exceptions."""
    done = CliRunner().invoke(app, list(args), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def numbers(line):
    return [int(text.replace(",", "")) for text in re.findall(r"(?<![\d.])\d[\d,]{3,}(?![\d.])", line)]


def test_model_is_listed_layer_by_layer_with_its_total():
    text = run("resnet22_2")
    assert text.startswith("resnet22_2 for 32x32 images and 10 classes\n")
    assert re.search(r"layer2\.0\.conv1 +128 x 16 x 16 +73,984 +1\.5 % +37,748,736", text)
    (total,) = [line for line in text.splitlines() if line.strip().startswith("total")]
    assert numbers(total) == [4_922_826, count_flops("resnet22_2")]


@pytest.mark.parametrize("name", PRESETS)
def test_layers_of_every_preset_add_up_to_its_count(name):
    rows = list(csv.DictReader(io.StringIO(run(name, "--format", "csv"))))
    assert sum(int(row["num_parameters"]) for row in rows) == PRESETS[name]["num_parameters"]
    assert sum(int(row["flops"]) for row in rows) == count_flops(name)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)


def test_images_and_classes_change_the_count():
    rows = json.loads(run("resnet22_2", "--image-size", "64", "--num-classes", "100", "--format", "json"))
    assert rows[-1]["layer"] == "classifier" and rows[-1]["shape"] == [100]
    assert sum(row["num_parameters"] for row in rows) == count_parameters("resnet22_2", 100, 64)


def test_widest_model_is_found_and_ready_to_paste(tmp_path):
    text = run("--blocks", "3,3,3,3", "--max-parameters", "5e6")
    assert "4,996,039 parameters, 3,961 remaining" in text
    (line,) = [line for line in text.splitlines() if line.startswith("model: ")]
    assert line == "model: {blocks: [3, 3, 3, 3], channels: [34, 68, 137, 274]}"
    path = tmp_path / "s.yaml"
    path.write_text(f"name: x\nbase:\n  {line}\n")
    (pasted,) = expand_trials(load_sweep(str(path)), describe_dataset)
    (model,) = re.findall(r"images: (\{.*\})", text)
    path.write_text(f"name: x\nbase:\n  model: {model}\n")
    (fitted,) = expand_trials(load_sweep(str(path)), describe_dataset)
    assert pasted.config == fitted.config
    assert pasted.num_parameters == 4_996_039


def test_blocks_alone_are_fitted_under_five_million():
    assert run("--blocks", "3,3,3,3") == run("--blocks", "3,3,3,3", "--max-parameters", "5_000_000")


def test_channels_are_a_ratio_with_a_budget_and_the_channels_without_one():
    fitted = widest({"blocks": [3, 2, 3, 2], "channels": [2, 4, 6, 8]}, 2_000_000, 10, 64)
    args = ["--blocks", "3,2,3,2", "--channels", "2,4,6,8", "--image-size", "64"]
    assert f"{fitted.num_parameters:,} parameters" in run(*args, "--max-parameters", "2000000")
    assert f"{count_parameters({'blocks': [3, 2, 3, 2], 'channels': [2, 4, 6, 8]}, 10, 64):,}" in run(*args)


def test_other_fields_of_a_model_can_be_given():
    text = run("baseline", "--head", "256,128", "--extra-conv", "512", "--format", "markdown")
    assert "head.1" in text and "extra\\_conv" in text
    options = ["--kernel-size", "[[1, 5], [1, 5], [1, 5]]", "--stem-kernel-size", "5", "--blocks", "2,3,2"]
    assert numbers(run("baseline", *options).rsplit("total", 1)[1])[0] == PRESETS["kernel_15"]["num_parameters"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["5M"],
            "MODEL: must be a preset's name, but got 5M; for a budget write --blocks 3,3,3,3 --max-parameters 5000000",
        ),
        ([], "MODEL: a preset's name or --blocks must be given"),
        (["resnet22"], "did you mean resnet22_2?"),
        (["--blocks", "3,3", "--max-parameters", "many"], "--max-parameters: must be a whole number above 0"),
        (["--blocks", "3,3", "--max-parameters", "1.5"], "--max-parameters: must be a whole number above 0"),
        (["--blocks", "3,3", "--max-parameters", "100"], "room for one channel per layer"),
        (["--blocks", "0,3"], "--blocks: must be >= 1, but got 0"),
        (["--blocks", "3,3", "--channels", "1,x"], "--channels: must be a whole number, but got x"),
        (["--blocks", "3,3", "--channels", "1,2,3"], "channels must have one entry for each of the 2 layers"),
        (["--blocks", "1,1,1,1,1", "--pool-size", "8"], "pool_size must fit the output"),
    ],
)
def test_wrong_option_is_refused(args, message):
    with pytest.raises(FlexResError) as caught:
        run(*args)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["80k", "0.08M", "80000", "8e4"])
def test_a_budget_may_be_written_with_k_or_m(text):
    assert "under 80,000" in run("--blocks", "1,1", "--max-parameters", text)


def test_error_is_a_message_and_status_2():
    done = subprocess.run([sys.executable, "-m", "flexres_tune.budget", "resnet"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("model must be a preset's name") and "Traceback" not in done.stderr


def test_command_is_instant_and_imports_no_torch():
    code = (
        "import sys; sys.argv = ['budget', '--blocks', '3,3,3,3', '--max-parameters', '5e6']\n"
        "from flexres_tune import budget\n"
        "try: budget.main()\n"
        "finally: assert not {'torch', 'ray', 'pyarrow'} & set(sys.modules)"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.monotonic() - started < 10  # 0.3 s on a quiet machine
