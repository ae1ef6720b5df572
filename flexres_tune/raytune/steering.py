"""What a person asks of the running sweep, done in Tune's thread between two events."""

from __future__ import annotations

from collections.abc import Callable

from ray import tune
from ray.tune.experiment import Trial

from flexres_tune.raytune.adapters import DriverSide
from flexres_tune.search.base import Search
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.signals import Signals
from flexres_tune.sweep.steering import Act, Answer, Inbox, Request


class SteeringCallback(DriverSide, tune.Callback):
    """Does what was asked, answers, and writes a row of `decisions` for each act.

    check_reload: the problems of the sweep file as it is now, "" if none. on_message: called with text for the
    user of the driver's terminal.
    """

    def __init__(
        self,
        inbox: Inbox,
        journal: Journal,
        search: Search,
        signals: Signals,
        check_reload: Callable[[], str],
        on_message: Callable[[str], None],
    ):
        self._inbox, self._journal, self._search, self._signals = inbox, journal, search, signals
        self._check_reload, self._on_message = check_reload, on_message

    def on_step_end(self, iteration: int, trials: list[Trial], **info) -> None:
        for request in self._inbox.take():
            answer = self._do(request)
            if answer.is_done:
                self._journal.record_steering(request.act, request.trial_id, request.who)
                self._on_message(f"{request.who}: {request.act} {request.trial_id}".rstrip() + f": {answer.text}")
            self._inbox.answer(request, answer)

    def _do(self, request: Request) -> Answer:
        if self._signals.requested:
            return Answer(False, "the sweep is ending")
        if request.act == Act.STOP:
            if self._journal.request_stop(request.trial_id):
                return Answer(True, f"trial {request.trial_id} stops after its current epoch")
            running = [id for id, state in self._journal.states.items() if state.record is None]
            which = f"running: {', '.join(running)}" if running else "no trial runs"
            return Answer(False, f"trial {request.trial_id} does not run now, so it cannot be stopped; {which}")
        if request.act == Act.PRIORITISE:
            if self._search.prioritise(request.trial_id):
                return Answer(True, f"trial {request.trial_id} starts as soon as there is a free slot")
            return Answer(
                False,
                f"trial {request.trial_id} is not waiting for its start: it runs, has run, is paused at a rung, or is "
                "not yet known to the search",
            )
        if problem := self._check_reload():
            return Answer(False, f"not reloaded, because the sweep file cannot be used as it is: {problem}")
        self._signals.request_reload()
        return Answer(True, "all trials are saved; then the driver reads the sweep file again and continues")
