"""Slots: a cluster that grows in the middle of a sweep holds more trials."""

from ray.tune.search import ConcurrencyLimiter, Searcher

from flexres_tune.errors import ResultsError
from flexres_tune.raytune.concurrency import ConcurrencyUpdater


def slots_of(measure):
    limiter, said = ConcurrencyLimiter(Searcher(), max_concurrent=2), []
    return limiter, said, ConcurrencyUpdater(limiter, measure, said.append)


def test_grown_cluster_holds_more_trials_and_says_so():
    limiter, said, slots = slots_of(lambda: 5)
    slots.look()
    assert limiter.max_concurrent == 5
    assert said == ["the cluster has grown: 5 trials at once"]


def test_number_stays_where_a_node_has_left():
    limiter, said, slots = slots_of(lambda: 1)
    slots.look()
    assert (limiter.max_concurrent, said) == (2, [])


def test_cluster_that_does_not_answer_changes_nothing_and_it_is_said_once():
    answers = iter([False, False, True, False])
    limiter, said, slots = slots_of(lambda: 2 if next(answers) else 1 / 0)
    slots.look()
    message = "the cluster does not say whether it has grown (ZeroDivisionError); it is asked again"
    assert (limiter.max_concurrent, said) == (2, [message])
    slots.look()
    assert said == [message], "said once"
    slots.look()
    slots.look()
    assert said == [message] * 2, "and again after an answer"


def test_connection_that_goes_away_at_the_end_is_no_news():
    _, said, slots = slots_of(lambda: 1 / 0)
    with slots:
        pass
    slots.look()
    assert said == []


def test_node_that_does_not_share_the_storage_gets_no_further_trials():
    def measure():
        raise ResultsError("--storage /x: all 4 nodes must share it")

    limiter, said, slots = slots_of(measure)
    slots.look()
    assert limiter.max_concurrent == 2
    assert said == ["a node has joined that no further trials are started for: --storage /x: all 4 nodes must share it"]


def test_nothing_is_asked_where_nobody_can_join():
    limiter, _, slots = slots_of(None)
    with slots:
        assert limiter.max_concurrent == 2
