"""Trials in Ray Tune: slots that run jobs, the searcher that hands them in, and schedulers that keep slots."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule
from ray.tune.search import Searcher

from search.evaluation.executor import Finished
from search.evaluation.job import Interim, Job
from search.ray.coordinator_actor import PULSE_S, ask_coordinator, await_admission, node_worker
from search.ray.messages import Alive, ClusterSetup, EvaluatorSources, Note, RunJob, SharesDone, Waiting

# What trials that are watched tell Tune: by which its schedulers stop those that fall behind, and when.
_REWARD, _AGE = "reward", "percent"
# Whether a job has ended; that of Tune's trial is later, when its slot gets another job.
_ENDED = "ended"
# How long a slot waits for its job before it tells Tune that it still runs.
_STEP_S = 5.0
# So long a slot is kept for the next job: between two rounds of NetAdapt, say. To start one takes seconds of a core.
_KEEP_S = 10.0
_BEAT_S = 1.0
# Tune asks again after so long where nothing runs.
_IDLE_S = 0.5
# So long the coordinator has for its next job after the end of another one. What comes later may have to wait as long:
# for the next event of Tune's loop.
_ANSWER_S = 0.1


class Worker(tune.Trainable):
    """Tune's view of a slot: one after the other, a node worker runs jobs and the coordinator's actor gets them."""

    def setup(self, config: dict[str, Any]) -> None:
        """A new slot, on whatever node there is room."""
        await_admission()
        self._key = config["key"]
        self._is_begun = False
        self._told: Interim | None = None
        self._worker = node_worker(config["setup"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune's way to use a slot for the next job."""
        self._worker.drop()
        self._key, self._is_begun, self._told = new_config["key"], False, None
        return True

    def step(self) -> dict[str, Any]:
        """Some seconds of a job, or what is left of it."""
        if not self._is_begun:
            self._worker.start(ask_coordinator("job", self._key))
            self._is_begun = True
        result = self._worker.look(_STEP_S)
        if result is not None:
            ask_coordinator("finish", self._key, result)
            return {**_report(self._told), "share": 1.0, _ENDED: True}
        interim = self._worker.interim
        if interim is None or interim == self._told:
            return {"share": self._worker.share, _ENDED: False}
        self._told = interim
        return {**_report(interim), _ENDED: False}

    def cleanup(self) -> None:
        """Tune needs this slot no more."""
        self._worker.close()


class Jobs(Searcher):
    """Gives Tune the jobs that the coordinator has handed in, and tells it what became of them."""

    def __init__(self, coordinator: Any, setup: ClusterSetup, tell: Callable[[object], None]) -> None:  # noqa: ANN401 - of Ray's
        super().__init__(metric="share", mode="max")
        self._coordinator, self._setup, self._tell = coordinator, setup, tell
        self._waiting: deque[Job] = deque()
        self._together: deque[Job] = deque()
        self._jobs_together: dict[str, Job] = {}
        self._noted: set[str] = set()
        self._changed = threading.Condition()
        self._told, self._answered = 0, 0  # endings, and on how many of them the coordinator has had its say
        self._running: dict[str, str] = {}  # Tune's ids to our keys
        self._jobs: dict[str, Job] = {}
        self._shares: dict[int, float] = {}
        self._idle: dict[str, float] = {}  # slots, by Tune's id of the trial they had, and since when
        self._given: str | None = None  # the key of the job that Tune was given in this round of its loop
        self._slots_gone: set[str] = set()  # trials, by Tune's ids, that were given an idle slot which was lost before
        self._losses: Counter[str] = Counter()
        self._beaten, self._felt = 0.0, time.monotonic()

    def hear(self, message: object) -> None:
        """A message of the coordinator."""
        if isinstance(message, EvaluatorSources):
            ray.get(self._coordinator.put_sources.remote(message.content, message.files))
            return
        assert isinstance(message, RunJob | Waiting)
        with self._changed:
            if isinstance(message, RunJob):
                (self._waiting if message.job.evaluation.processes == 1 else self._together).append(message.job)
            else:
                self._answered = message.endings
            self._changed.notify()

    def train_together(self) -> None:
        """Run the jobs that are for several processes, which Tune cannot, at once where there is room."""
        while self._together:
            some = [self._together.popleft() for _ in range(len(self._together))]
            threads = [threading.Thread(target=self._train_together, args=(job,), daemon=True) for job in some]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self.beat()
                time.sleep(_IDLE_S)

    def _train_together(self, job: Job) -> None:
        from search.ray.distributed import train_together  # which loads torch: no slot of Tune's needs it

        key, reason = _key(job), "it gave no result"
        ray.get(self._coordinator.put.remote(key, job))
        self._jobs_together[key] = job
        try:
            train_together(job, key, self._setup)
        except Exception as error:  # noqa: BLE001 - whatever Ray Train raises, the job has ended
            reason = f"{type(error).__name__}: {error}"
        finished = ray.get(self._coordinator.take.remote(key))
        del self._jobs_together[key]
        self._shares.pop(job.number, None)
        self._tell_ending(finished or Finished(job=job, outcome=None, error=" ".join(reason.split())[:1000]))

    def felt(self, shares: Mapping[str, float], room: int) -> None:
        """The coordinator's actor is alive, as far as is known; it told of the jobs that Tune does not run."""
        self._felt = time.monotonic()
        for key, job in list(self._jobs_together.items()):
            if key in shares:
                self._shares[job.number] = shares[key]
            elif job.evaluation.processes > room and key not in self._noted:
                self._noted.add(key)
                self._tell(
                    Note(
                        f"trial {job.number} waits for room: {job.evaluation.processes} processes "
                        f"(ray.final_processes) at once, where the cluster has room for {room}"
                    )
                )

    def beat(self) -> None:
        """Tell the coordinator that Tune goes round, and how far its trials are.

        Without the coordinator's actor Tune may go on for ever, and no trial could hand in its result: it is then of no
        use, and silent.
        """
        now = time.monotonic()
        if now - self._beaten > _BEAT_S and now - self._felt < PULSE_S:
            self._beaten = now
            self._tell(Alive())
            self._tell(SharesDone(dict(self._shares)))

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 - Tune's
        """The next job, None where there is none yet, or FINISHED (a text) where Tune is to make room."""
        self.beat()
        if self._given is not None and self._idle:
            return None  # one after the other gets an idle slot
        with self._changed:
            if not self._running:
                self._changed.wait_for(self._is_asked, _IDLE_S)
            elif not self._changed.wait_for(lambda: self._is_asked() or self._answered >= self._told, _ANSWER_S):
                self._answered = self._told  # the next event is waited for by Tune
            if self._together:
                return Searcher.FINISHED  # while Tune goes on it keeps a slot, used or not
            if not self._waiting:
                return None
            job = self._waiting.popleft()
        key = _key(job)
        ray.get(self._coordinator.put.remote(key, job))
        self._running[trial_id], self._jobs[key] = key, job
        self._given = key
        return {"key": key, "setup": self._setup}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial still runs, or its job has ended."""
        key = self._running[trial_id]
        if result[_ENDED]:
            self._idle[trial_id] = time.monotonic()
            self._end(trial_id, ray.get(self._coordinator.take.remote(key)))
        else:
            self._shares[self._jobs[key].number] = result["share"]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune has lost a trial, or a scheduler has stopped it; or it ended before, and its slot is freed."""
        if trial_id not in self._running:
            return
        key = self._running[trial_id]
        if not error and result is not None:
            self._coordinator.forget.remote(key)
            self._end(trial_id, None, stopped=_interim(result))  # with the report that made the scheduler do so
        elif ray.get(self._coordinator.is_finished.remote(key)):
            self._end(trial_id, ray.get(self._coordinator.take.remote(key)))
        else:
            self._lose(trial_id, key)

    def slot_was_gone(self, trial_id: str) -> None:
        """The loss of this trial, of which Tune will tell, is one of its idle slot before, and does not count."""
        self._slots_gone.add(trial_id)

    def _lose(self, trial_id: str, key: str) -> None:
        """Have a job begin anew, unless it was lost too often."""
        self._losses[key] += trial_id not in self._slots_gone
        self._slots_gone.discard(trial_id)
        lost, allowed = self._losses[key], self._setup.retries
        if lost > allowed:
            self._coordinator.forget.remote(key)
            self._end(trial_id, None, error=f"its process or node was lost {lost} time(s) (ray.retries {allowed})")
            return
        job = self._jobs.pop(self._running.pop(trial_id))
        self._shares.pop(job.number, None)
        with self._changed:
            self._waiting.appendleft(job)

    def _end(
        self, trial_id: str, finished: Finished | None, *, error: str | None = None, stopped: Interim | None = None
    ) -> None:
        key = self._running.pop(trial_id)
        job = self._jobs.pop(key)
        self._shares.pop(job.number, None)
        self._losses.pop(key, None)
        self._tell_ending(finished or Finished(job=job, outcome=None, error=error, stopped=stopped))

    def _tell_ending(self, finished: Finished) -> None:
        with self._changed:
            self._told += 1
        self._tell(finished)

    def _is_asked(self) -> bool:
        return bool(self._waiting or self._together)

    def slot_to_free(self, *, is_waited_for: bool, has_tune_one: bool, is_one_starting: bool) -> str | None:
        """An idle slot that a trial can have, or that nobody has wanted for long, by Tune's id of the trial it had.

        Args:
            is_waited_for: Whether a trial finds no room for a slot of its own.
            has_tune_one: Whether Tune has an idle slot besides, which it gives away first.
            is_one_starting: Whether a slot starts: Tune would end it, and give its trial one that is freed by age.
        """
        is_wanted = is_waited_for or self._given is not None
        self._given = None
        if self._idle and (self._together or (is_wanted and not has_tune_one)):
            return self._idle.popitem()[0]
        if is_wanted or is_one_starting or len(self._idle) < 2:
            return None  # the last one keeps Tune's loop going, which else would not see slots to their end
        oldest = next(iter(self._idle))
        if time.monotonic() - self._idle[oldest] < _KEEP_S:
            return None
        del self._idle[oldest]
        return oldest

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept here."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""


def _key(job: Job) -> str:
    return f"{job.number}-{job.attempt}"


def _report(interim: Interim | None) -> dict[str, Any]:
    """What schedulers compare, at ages in whole numbers as theirs are; of a trial that nobody watches, it is nothing.

    They want it of the last report, too.
    """
    if interim is None:
        return {"share": 0.0, "top1": 0.0, _REWARD: 0.0, _AGE: 0}
    return {"share": interim.share, "top1": interim.top1, _REWARD: interim.reward, _AGE: round(interim.share * 100)}


def _interim(report: Mapping[str, Any]) -> Interim:
    return Interim(share=report["share"], top1=report["top1"], reward=report[_REWARD])


class Rounds(tune.Callback):
    """Beats at every round of Tune's loop, also while nothing is asked of the searcher."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401, ARG002 - Tune's
        """See Tune."""
        self._jobs.beat()


class _KeepsSlots(FIFOScheduler):
    """Slots whose job has ended are kept for the next one.

    Tune alone keeps one idle slot, and ends all others; it also ends slots that are about to start where another one
    falls idle. So Tune's trial of a job that has ended goes on, with nothing to do, until somebody wants its slot. That
    needs a look into Tune's loop, at attributes that it does not promise to keep.
    """

    jobs: Jobs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ANN401 - Tune's
        """See Tune."""
        if result[_ENDED]:
            return self.NOOP
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ANN401 - Tune's
        """See Tune; an idle slot that was lost is noticed when the next trial fails to have it reset."""
        super().on_trial_error(tune_controller, trial)
        if trial in tune_controller._resetting_trials:
            self.jobs.slot_was_gone(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:  # noqa: ANN401 - Tune's
        """Free an idle slot where one is wanted: for the trial that has waited for room the longest, else a new one.

        That one is left to Tune's loop: it gives idle slots to trials that have asked for none yet.
        """
        loop = tune_controller._tune_controller
        without_room = set(loop._actor_manager.pending_actors)
        waits = None
        if without_room:
            slots = ((trial, loop._trial_to_actor.get(trial)) for trial in loop.get_trials())
            waits = next((trial for trial, slot in slots if slot in without_room), None)
        freed = self.jobs.slot_to_free(
            is_waited_for=waits is not None,
            has_tune_one=bool(loop._actor_cache.num_cached_objects),
            is_one_starting=bool(loop._staged_trials),
        )
        if freed is not None:
            live = tune_controller.get_live_trials()
            tune_controller.stop_trial(next(trial for trial in live if trial.trial_id == freed))
            if not loop._pending_trials:  # it was freed by age, and Tune would keep it
                loop._cleanup_cached_actors(force_all=True)
        return waits


class _Asha(_KeepsSlots, ASHAScheduler):
    pass


class _Median(_KeepsSlots, MedianStoppingRule):
    pass


# Of Tune's schedulers those that stop trials, and do not pause them: a paused training would have to be kept. Nothing
# is stopped in its first fifth, or where there are no others to compare it with.
_COMPARED: dict[str, Any] = {"time_attr": _AGE, "metric": _REWARD, "mode": "max", "grace_period": 20}
_UNPAUSED: dict[str, Any] = {"min_time_slice": math.inf}
SCHEDULERS: Mapping[str, Callable[[], _KeepsSlots]] = {
    "none": _KeepsSlots,
    "asha": lambda: _Asha(**_COMPARED, max_t=100, reduction_factor=2),
    "median": lambda: _Median(**_COMPARED, **_UNPAUSED, min_samples_required=3),
}
