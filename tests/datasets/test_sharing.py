"""Real processes of one node: they decode once, and none has a copy of the images to itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flexres_tune.cluster.connection import PROCESS_ENVIRONMENT

ROOT = Path(__file__).parents[2]
NUM_BYTES = 30_000 * 3 * 32 * 32

LOADER = """
import json, os, re, sys
import numpy as np, torch
from flexres_tune.datasets import images
from flexres_tune.datasets.arrays import split_arrays
from flexres_tune.datasets.cache import cached_arrays

def decode():
    with open(sys.argv[1], "a") as file:
        file.write("decoded\\n")
    noise = np.random.default_rng(0).integers(0, 256, (31_000, 3, 32, 32), np.uint8)
    labels = np.arange(31_000, dtype=np.int64) % 10
    return split_arrays(noise, labels, noise[:500].copy(), labels[:500], num_val=1_000)

def memory_kb(counted, match=""):
    '''Of this process's mappings with `match` in their name: what the pattern counts.'''
    mappings = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read())
    own = "".join(mapping for mapping in mappings if match in mapping.partition("\\n")[0])
    return sum(map(int, re.findall(rf"(?m)^(?:{counted}): +(\\d+) kB", own)))

images.read_images = lambda name: (cached_arrays("large", decode), tuple("0123456789"))
torch.set_num_threads(1)
torch.ones(1_000_000).sum()
before = memory_kb("Private_Dirty")
data = images.load_dataset("large", torch.device("cpu"))
part = images.load_dataset("large", torch.device("cpu"), 20_000)  # a subset is no copy either
for split in (data.train, data.val, data.test, part.train):
    for batch in split.images.split(100):  # touches every page
        batch.float().sum()
    split.labels.sum()
print("loaded", flush=True)
sys.stdin.readline()
files = os.environ["FLEXRES_TUNE_DATA"]
found = {
    "grown": memory_kb("Private_Dirty") - before,
    "own": memory_kb("Private_Clean|Private_Dirty", files),
    "mapped": memory_kb("Rss", files),
}
print(json.dumps({name: kb * 1024 for name, kb in found.items()}), flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc/self/smaps")
def test_processes_that_start_on_a_cold_cache_decode_once_and_share_the_images(tmp_path):
    log = tmp_path / "decoded"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOADER, log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "FLEXRES_TUNE_DATA": str(tmp_path / "cache"), **PROCESS_ENVIRONMENT},
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "loaded\n"
        found = []
        for process in processes:  # while both are there: a page that only one process has counts as private
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline()))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert log.read_text() == "decoded\n"
    for memory in found:
        assert memory["mapped"] > NUM_BYTES, "all images were read, through the mapping"
        assert memory["own"] < 0.01 * NUM_BYTES
        assert memory["grown"] < 0.25 * NUM_BYTES, "batches; and the one that decoded has given back what it used"
