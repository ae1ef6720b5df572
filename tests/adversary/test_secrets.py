"""A secret in the environment, an address, a git remote or a file of the home folder is in nothing that a sweep writes.

A sweep runs with a failure in each phase: the start, a trial, the storage, the report. Then the output of all commands,
the tables, plans, reports, logs, checkpoints and Ray's session folder are searched for the secrets.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from helpers.driver_process import ROOT, Driver
from helpers.factories import make_sweep_yaml
from helpers.sabotage import ALL, faults

MARK = "cAnArY/7f"  # in every secret, followed by where it was; the slash is quoted in addresses and JSON
FORMS = (MARK, quote(MARK, safe=""), MARK.replace("/", "\\/"), "cAnArY")
ADDRESS = "http://someone:{}@127.0.0.1:9"
VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_API_KEY", "GCP_SERVICE_ACCOUNT_KEY"),
    *("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("GITHUB_TOKEN", "SLACK_TOKEN", "OPENAI_API_KEY", "DATABASE_URL", "PGPASSWORD", "MY_PASSWORD", "KAGGLE_KEY"),
)
ADDRESSES = ("MLFLOW_TRACKING_URI", "HTTPS_PROXY", "https_proxy", "WANDB_BASE_URL", "AZURE_STORAGE_CONNECTION_STRING")
FILES = (
    *(".netrc", ".aws/credentials", ".aws/config", ".config/gcloud/application_default_credentials.json"),
    *(".git-credentials", ".cache/huggingface/token", ".ssh/id_rsa", ".kaggle/kaggle.json", ".env"),
)


def secret(place):
    return f"{MARK}{place}"


@pytest.fixture
def repository(tmp_path):
    """A copy of this package in a git repository whose remote has a token."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "flexres_tune", folder / "flexres_tune", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    token = secret("remote").replace("/", "%2F")
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", f"https://x-access-token:{token}@example.org/a.git"],
        ["add", "."],
        ["commit", "-qm", "code"],
    ):
        subprocess.run([*git, *words], check=True)
    (folder / ".env").write_text(f"TOKEN={secret('.env')}\n")
    return folder


@pytest.fixture
def environment(tmp_path):
    """Variables and a home folder that have a secret wherever one may be."""
    home = tmp_path / "home"
    for name in FILES:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"[default]\naws_secret_access_key = {secret(name)}\n")
    (home / ".netrc").write_text(f"machine 127.0.0.1 login someone password {secret('.netrc')}\n")
    (home / ".git-credentials").write_text(f"https://someone:{secret('.git-credentials')}@example.org\n")
    credentials = home / ".config/gcloud/application_default_credentials.json"
    credentials.write_text(json.dumps({"type": "authorized_user", "refresh_token": secret(credentials.name)}))
    ray = tempfile.mkdtemp(prefix="fx_")  # the path of a socket in it has at most 107 bytes
    here = f"127.0.0.1,localhost,{socket.gethostname()},{socket.gethostbyname(socket.gethostname())},*"
    yield {
        **{name: secret(name) for name in VARIABLES},
        **{name: ADDRESS.format(quote(secret(name), safe="")) for name in ADDRESSES},
        **{"NO_PROXY": here, "no_proxy": here, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"},
        **{"GOOGLE_APPLICATION_CREDENTIALS": str(credentials), "RAY_TMPDIR": ray, "TMPDIR": ray},
        **{"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT / "tests")},
    }
    shutil.rmtree(ray, ignore_errors=True)


@pytest.fixture
def run(repository, environment):
    """run(module, *arguments, env={}) -> Driver, in the repository and with the secrets."""
    drivers = []

    def start(module, *arguments, env=None):
        drivers.append(
            Driver(*arguments, module=f"flexres_tune.{module}", cwd=repository, env=environment | (env or {}))
        )
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.clean_up()


def find_secrets(texts):
    """(place, text around it) of each secret in (place, text)."""
    found = []
    for place, text in texts:
        for form in FORMS:
            at = text.find(form)
            if at >= 0:
                found.append((str(place), text[max(0, at - 200) : at + 60]))
                break
    return found


def texts_of(folder):
    """(path, content) of all files below a folder; Parquet files as their values and metadata."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield path, f"{table.to_pylist()} {table.schema.metadata} {pq.read_schema(path)}"
        yield path, path.read_bytes().decode("latin-1")


def write_sweep(folder, name="secrets", **changes):
    path = folder / f"{name}.yaml"
    rates = {"parameters": {"lr": {"values": [0.1, 0.05, 0.01]}}}
    path.write_text(make_sweep_yaml(name=name, base={"epochs": 6, "batch_size": 16}, **rates, **changes))
    return path


@pytest.mark.slow
def test_no_secret_is_in_what_a_failing_sweep_writes(run, environment, small_disk, tmp_path):
    texts = []

    def command(module, *arguments, env=None, statuses=(1, 2)):
        driver = run(module, *arguments, env=env)
        assert driver.wait(240) in statuses, driver.text()
        texts.append((f"output of {module} {' '.join(map(str, arguments))} {env or ''}", driver.text()))

    # A failure at the start: addresses with passwords, a server that is down, a cluster that does not exist.
    file, results = write_sweep(tmp_path), small_disk / "results"
    password = quote(secret("address"), safe="")
    endpoints = {
        name: ADDRESS.format(quote(secret(name), safe="")) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    }
    for storage in (
        f"s3://u:{password}@b/x",
        f"s3://b/x?endpoint_override=u:{password}@127.0.0.1:9",
        "s3://b/x",
        "gs://b/x?endpoint_override=127.0.0.1:9",
    ):
        command(
            "run", file, "--profile", "none", "--storage", storage, env=endpoints if storage == "s3://b/x" else None
        )
        command("query", "status", "--results", storage, env=endpoints)
    command("run", file, "--profile", "none", "--storage", results, "--address", "127.0.0.1:1", env=endpoints)
    command(
        "run",
        file,
        "--profile",
        "none",
        "--storage",
        tmp_path / "w",
        "--logger",
        "wandb",
        env={"WANDB_MODE": "online"},
        statuses=(0, 1, 2),
    )

    # A failure of a trial, of the storage and of the report, in one sweep.
    sabotage = faults(tmp_path / "notes", raises=[0.05], slow=ALL) | {"PYTHONPATH": str(ROOT / "tests")}
    (results / "secrets" / "report.html").mkdir(parents=True)
    driver = run(
        "run", file, "--profile", "none", "--storage", results, "--max-concurrent", "1", env=endpoints | sabotage
    )
    driver.wait_for(lambda: list(results.glob("secrets/epochs/part-*")), 240)
    with open(small_disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    driver.wait_for(lambda: "No space left on device" in driver.text(), 120)
    (small_disk / "filler").unlink()
    assert driver.wait(300) == 0, driver.text()
    texts.append(("output of the sweep", driver.text()))
    rows = pq.read_table(results / "secrets" / "trials").to_pylist()
    assert sorted(row["status"] for row in rows) == ["completed", "completed", "failed"]
    assert all(row["git_commit"] for row in rows), "git was not asked"
    assert "report.html: cannot be written" in driver.text(), "the report did not fail"
    (results / "secrets" / "report.html").rmdir()
    command("report", "--results", results, statuses=(0,))
    for words in (
        ["leaderboard"],
        ["status"],
        ["trials", "--format", "csv"],
        ["SELECT getenv('AWS_SECRET_ACCESS_KEY')"],
    ):
        command("query", *words, "--results", results, statuses=(0, 2))
    command("doctor", "--storage", results, statuses=(0, 1, 2))

    planted = {Path(environment["HOME"], name) for name in FILES}
    for folder in (results, Path(environment["RAY_TMPDIR"]), Path(environment["HOME"]), tmp_path / "w"):
        texts += [(path, text) for path, text in texts_of(folder) if path not in planted]
    assert any("raylet.out" in str(place) for place, _ in texts), "Ray's session folder was not searched"
    found = find_secrets(texts)
    assert not found, "\n".join(f"{place}: {text}" for place, text in found)
    assert find_secrets(texts_of(tmp_path / "home")), "the search finds what was planted"
