import dataclasses

import torch

from flexres_tune.bench.textbook import TextbookLoop
from flexres_tune.bench.train import matrix_product_flops
from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import Split
from flexres_tune.spec import TrialConfig

CPU = torch.device("cpu")


def test_textbook_loop_trains_on_the_same_images():
    data = load_dataset("digits", CPU)
    data = dataclasses.replace(data, train=Split(data.train.images[:64], data.train.labels[:64]))
    loop = TextbookLoop(TrialConfig(model="tiny", dataset="digits", batch_size=32, mixup_alpha=0.5), data, CPU)
    before = [parameter.clone() for parameter in loop.model.parameters()]
    assert loop.run_epoch() > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.model.parameters(), strict=True))


def test_peak_is_of_the_order_of_a_processor():
    assert 1e9 < matrix_product_flops(CPU, "fp32", seconds=0.1) < 1e15
