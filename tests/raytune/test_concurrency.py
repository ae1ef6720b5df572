"""ConcurrencyUpdater: a cluster that grows during a sweep runs more trials at once."""

from ray.tune.search import ConcurrencyLimiter, Searcher

from flexres_tune.cluster.resources import ClusterResources, NodeResources, TrialResources
from flexres_tune.errors import ResultsError
from flexres_tune.raytune import concurrency
from flexres_tune.raytune.concurrency import ConcurrencyUpdater, measure_slots


def make_updater(measure):
    limiter, messages = ConcurrencyLimiter(Searcher(), max_concurrent=2), []
    return limiter, messages, ConcurrencyUpdater(limiter, measure, messages.append)


def test_cluster_that_has_grown_runs_more_trials():
    limiter, messages, updater = make_updater(lambda: 5)
    updater.update()
    assert limiter.max_concurrent == 5
    assert messages == ["the cluster has grown: 5 trials at once"]


def test_limit_stays_if_a_node_has_left():
    limiter, messages, updater = make_updater(lambda: 1)
    updater.update()
    assert (limiter.max_concurrent, messages) == (2, [])


def test_query_that_fails_changes_nothing_and_is_reported_once():
    succeeds = iter([False, False, True, False])
    limiter, messages, updater = make_updater(lambda: 2 if next(succeeds) else 1 / 0)
    updater.update()
    message = "could not query the cluster's size (ZeroDivisionError); will retry"
    assert (limiter.max_concurrent, messages) == (2, [message])
    updater.update()
    assert messages == [message]
    updater.update()
    updater.update()
    assert messages == [message] * 2, "reported again after a query that succeeded"


def test_connection_that_closes_at_the_end_is_not_reported():
    _, messages, updater = make_updater(lambda: 1 / 0)
    with updater:
        pass
    updater.update()
    assert messages == []


def test_node_that_does_not_share_the_storage_is_ignored():
    def measure():
        raise ResultsError("--storage /x: all 4 nodes must share it")

    limiter, messages, updater = make_updater(measure)
    updater.update()
    assert limiter.max_concurrent == 2
    assert messages == ["ignoring a new node: --storage /x: all 4 nodes must share it"]


def test_no_query_is_made_if_no_node_can_join():
    limiter, _, updater = make_updater(None)
    with updater:
        assert limiter.max_concurrent == 2


def test_storage_of_machines_that_replace_others_is_checked(tmp_path, monkeypatch):
    def make_cluster(num_alive):
        return ClusterResources((NodeResources(num_gpus=1, num_cpus=1),) * num_alive, num_alive, is_local=False)

    sizes, checked = iter([4, 2, 3, 3]), []
    monkeypatch.setattr(concurrency, "read_cluster", lambda is_local: make_cluster(next(sizes)))
    monkeypatch.setattr(concurrency, "require_shared_storage", lambda storage, now: checked.append(now.num_alive))
    measure = measure_slots(TrialResources(1, 1, 4, ""), make_cluster(4), tmp_path, None)
    assert [measure() for _ in range(4)] == [4, 2, 3, 3]
    assert checked == [3]
