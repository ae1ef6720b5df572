"""One trial's stream of reports, without Ray."""

import pytest
import torch

from flexres_tune.raytune.job import TrialJob, run_job
from flexres_tune.spec import TrialConfig


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(("num_gpus", "says_so"), [(0.25, True), (0.0, False)])
def test_trial_that_holds_a_gpu_which_torch_does_not_see_says_so(num_gpus, says_so):
    config = TrialConfig(model="tiny", dataset="digits", epochs=1, num_train_images=64, augmentation=[])
    job = TrialJob(config.trial_id, config.to_dict(), None, 10.0, num_threads=1, num_gpus=num_gpus)
    (report,) = run_job(job)
    assert report.status == "completed"
    assert bool(report.facts.notice) is says_so
    if says_so:
        assert f"{report.facts.hostname}: torch must see the GPU that a trial holds" in report.facts.notice
        assert "resources_per_trial.gpu=0" in report.facts.notice
