"""One step of the walk: proposals see more images until the best one is told apart, or are taken together.

Fine-tuned on a few hundred images most proposals differ by less than their judgement errs, and a choice among them is
as good as a draw. So those that are not told apart are fine-tuned anew on twice the images, all on the same ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.evaluation.job import Evaluation
from search.stages.dispatch import run_trials
from search.stages.session import Session
from search.stages.walk.netadapt import Choice, Judged, choose, rivals, worth_by_image
from search.trial import Origin, SearchStage, State, Trial
from space.errors import RunError
from space.keys import keys_of
from space.narrowing import Proposal, narrowed_together
from trainer.training.judgement import Judgement

# The most images that a proposal sees, unless that is set: so many times the first ones, and in proportion more where a
# training split has more than 51,200 images, which is what Fashion-MNIST's has.
_TIMES, _PER_TIME = 8, 6_400
# So many layers are narrowed in one step at most, and not further below the target than by that share.
_TOGETHER, _OVERSHOT = 4, 0.01

Advance = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step from a network, whose proposals each save enough; `advance` hears of the share of it that is done."""

    session: Session
    current: Trial
    iteration: int
    target_ms: float
    advance: Advance

    def take(self, found: Sequence[Proposal]) -> Trial:
        """The trial of the accepted network.

        Raises:
            Interrupted: it was stopped.
            RunError: all proposals failed.
        """
        return self._told_apart(found) if self.session.config.tells_proposals_apart else self._best_score(found)

    def _best_score(self, found: Sequence[Proposal]) -> Trial:
        settings = self.session.config.netadapt
        judged = self._required(self._evaluated(found, settings.images), len(found))
        scores = self._scores([self.current, *judged])
        return judged[choose(scores[0], scores[1:], by=settings.choice)]

    def _told_apart(self, found: Sequence[Proposal]) -> Trial:
        images, left = self.session.config.netadapt.images, list(found)
        judged = self._required(self._compared(left, images), len(left))
        while True:
            alike = self._alike(judged, images)
            if len(alike) == 1:
                return alike[0]
            left = [proposal for trial in alike for proposal in found if proposal.architecture == trial.architecture]
            if 2 * images > self._most_images:
                if alike[0].scores.latency_ms > self.target_ms:
                    return self._together(left, alike[0], images)
                within = [trial for trial in alike if trial.scores.latency_ms <= self.target_ms]
                return max(within, key=lambda trial: trial.scores.latency_ms)  # which gives least away
            images *= 2
            self.session.listener.note(
                f"NetAdapt step {self.iteration}: {len(left)} proposals are not told apart, and are fine-tuned on "
                f"{images:,} images"
            )
            judged = self._compared(left, images) or alike[:1]

    def _compared(self, proposals: Sequence[Proposal], images: int) -> list[Trial]:
        """These as they are fine-tuned beside the network that they are compared with."""
        unchanged = Proposal(architecture=self.current.architecture, narrowed=Origin.UNCHANGED)
        return [trial for trial in self._evaluated([*proposals, unchanged], images) if trial.origin != Origin.UNCHANGED]

    def _required(self, judged: list[Trial], asked: int) -> list[Trial]:
        if not judged:
            raise RunError(
                f"all {asked} proposals of NetAdapt's step {self.iteration} failed; see: mobilenas logs "
                f"{self.session.record.name}"
            )
        return judged

    def _together(self, alike: Sequence[Proposal], best: Trial, images: int) -> Trial:
        """All of these narrowings at once, as far as the target lets them; the best alone where that is worse."""
        joined = self._joined(alike)
        trained = [] if joined is None else self._evaluated([joined], images)
        return trained[0] if trained and trained[0] in self._alike([best, *trained], images) else best

    def _joined(self, alike: Sequence[Proposal]) -> Proposal | None:
        """The most of these, in their order, that together stay near the target and are measured or can be."""
        chosen, joined = [alike[0]], None
        for proposal in alike[1:]:
            if len(chosen) == _TOGETHER:
                break
            further = narrowed_together(self.current.architecture, [*chosen, proposal])
            if further is not None and self._is_near(further):
                chosen.append(proposal)
                joined = further
        return joined

    def _is_near(self, proposal: Proposal) -> bool:
        session, keys = self.session, keys_of(proposal.architecture)
        reached = [goal for goal in session.goals if goal.meter is not None]
        session.measure(keys, f"NetAdapt step {self.iteration}", reason="netadapt", on=reached)
        if session.latency.missing(keys):
            return False
        return session.latency.estimate(proposal.architecture) >= (1 - _OVERSHOT) * self.target_ms

    @property
    def _most_images(self) -> int:
        settings = self.session.config.netadapt
        if settings.most_images is not None:
            return settings.most_images
        return round(settings.images * max(_TIMES, len(self.session.evaluations.images.splits.train) / _PER_TIME))

    def _images_of(self, trial: Trial) -> int:
        images: int = (trial.sampler_attrs or {}).get("images", self.session.config.netadapt.images)
        return images

    def _of_round(self, images: int) -> list[Trial]:
        return [trial for trial in of_iteration(self.session, self.iteration) if self._images_of(trial) == images]

    def _evaluated(self, proposals: Sequence[Proposal], images: int) -> list[Trial]:
        """The completed trials of these, fine-tuned on so many images from the current network's weights."""
        session = self.session
        wanted = {proposal.architecture for proposal in proposals}
        recorded = {trial.architecture for trial in self._of_round(images) if trial.state is not State.FAILED}
        waiting = [proposal for proposal in proposals if proposal.architecture not in recorded]
        is_first = images == session.config.netadapt.images

        def evaluation_of(trial: Trial) -> Evaluation:
            recipe = session.config.fine_tuning(self._images_of(trial))
            key = self.current.evaluation_key
            return session.evaluations.of(trial.architecture, recipe, train_images=None, parent_key=key)

        def ask() -> Trial | None:
            if not waiting:
                return None
            proposal = waiting.pop(0)
            return session.new_trial(
                SearchStage.NETADAPT,
                proposal.architecture,
                origin=proposal.narrowed,
                iteration=self.iteration,
                parent=self.current,
                sampler_attrs=None if is_first else {"images": images},
            )

        def of_these() -> list[Trial]:
            return [trial for trial in self._of_round(images) if trial.architecture in wanted]

        def advanced(running: float) -> None:
            if not is_first:
                return  # nobody knows how many more there will be
            ended = sum(trial.state is not State.RUNNING for trial in of_these())
            self.advance(min(1.0, (ended + running) / len(proposals)))

        run_trials(session, SearchStage.NETADAPT, ask, evaluation_of, advanced=advanced)
        return [trial for trial in of_these() if trial.state is State.COMPLETE]

    def _scores(self, trials: Sequence[Trial]) -> list[Judged]:
        """By what a step is chosen: the log-likelihood, which tells networks apart on fewer images than top-1 needs.

        Where something else is asked for, or there is none for one of them, it is top-1.
        """
        config, likelihoods = self.session.config, [trial.scores.log_likelihood for trial in trials]
        by_top1 = config.netadapt.choice == "top1" or config.data.rank_by != "top1" or None in likelihoods
        scores = [trial.scores.top1 for trial in trials] if by_top1 else likelihoods
        return [
            Judged(score=score, latency_ms=trial.scores.latency_ms)
            for score, trial in zip(scores, trials, strict=True)
            if score is not None
        ]

    def _alike(self, judged: Sequence[Trial], images: int) -> list[Trial]:
        """The best of these and what is not told apart from it, the best first; of what is not known by image the best.

        Losses are those beside the network of the step before, fine-tuned on as many images. Beside that network as it
        was nearly all would gain, and most per ms who saves least. What is saved beyond the target counts for nothing.
        """
        by = self.session.config.netadapt.choice
        unchanged = self._unchanged(images)
        found = [self._judgement(trial) for trial in (unchanged, *judged)]
        known = [each for each in found if each is not None]
        if len({len(each) for each in known}) != 1 or len(known) < len(found):
            scores = [
                replace(each, latency_ms=max(each.latency_ms, self.target_ms))
                for each in self._scores([unchanged, *judged])
            ]
            return [judged[choose(scores[0], scores[1:], by=by)]]
        trials = (unchanged, *judged)
        scores_by_image = [_by_image(each, trial, by) for each, trial in zip(known, trials, strict=True)]
        before_ms = self.current.scores.latency_ms
        saved = [before_ms - max(trial.scores.latency_ms, self.target_ms) for trial in judged]
        worths = [
            worth_by_image(scores_by_image[0], own, ms, by=by)
            for own, ms in zip(scores_by_image[1:], saved, strict=True)
        ]
        return [judged[index] for index in rivals(worths)]

    def _unchanged(self, images: int) -> Trial:
        """The network of the step before, fine-tuned on so many images, or fewer where that has failed."""
        complete = [
            trial
            for trial in of_iteration(self.session, self.iteration)
            if trial.origin == Origin.UNCHANGED and trial.state is State.COMPLETE and self._images_of(trial) <= images
        ]
        return max(complete, key=self._images_of, default=self.current)

    def _judgement(self, trial: Trial) -> Judgement | None:
        path = self.session.start.files.judged(trial.number)
        return Judgement.from_bytes(path.read_bytes()) if path.is_file() else None


def _by_image(judgement: Judgement, trial: Trial, by: Choice) -> np.ndarray:
    """What is compared, shape (images,). A byte per image says how images differ; the mean is known exactly."""
    if by == "top1" or trial.scores.log_likelihood is None:
        return judgement.right.astype(np.float64)
    moved: np.ndarray = judgement.log_likelihoods + (trial.scores.log_likelihood - judgement.log_likelihood)
    return moved


def of_iteration(session: Session, iteration: int) -> list[Trial]:
    """The recorded trials of one step."""
    return [trial for trial in session.trials(SearchStage.NETADAPT) if trial.iteration == iteration]
