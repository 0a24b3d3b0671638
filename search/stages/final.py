"""The end of a search: the best networks and the reference trained alike, one of them chosen, tested and exported."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from search.evaluation.job import Evaluation
from search.record.rows import ExportRecord
from search.reports.recorded_search import RecordedSearch, may_be_chosen
from search.stages.dispatch import run_trials
from search.stages.export import export_metadata, export_network
from search.stages.race.finalists import choose_finalists
from search.stages.race.rungs import forget_all_checkpoints, ranked
from search.stages.session import Session
from search.trial import Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import RunError
from space.formats import FILE_NAMES, write_spec
from trainer.training.judgement import Judgement
from trainer.training.judging import temperature_of
from trainer.training.metrics import paired_mean_difference
from trainer.training.networks import Weights, load_model
from trainer.training.recipe import Recipe
from trainer.training.weight_files import read_weights, temperature_of_weights

SPEC = FILE_NAMES["spec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A final network; `source` is the trial that it goes on from, None: it is trained from scratch."""

    origin: str
    architecture: Architecture
    source: Trial | None


def train_finals(session: Session, best: list[Trial]) -> None:
    """Train the best networks and the reference with the same recipe; the one that is chosen meets the test split.

    Of several the reward split chooses, so that the test split stays a test: only the chosen one and the reference,
    which is no choice, are looked at there, once. After a race the scaled reference is one of those to choose from, and
    is looked at there, too.

    Raises:
        Interrupted: it was stopped.
        RunError: all trainings of the found networks, or those of the reference, failed.
    """
    _evaluate(session, "final training", _recorded(session) or _wanted(session, best))
    if (chosen := _chosen(session)) is not None:
        tested = _Wanted(origin=Origin.FOUND, architecture=chosen.architecture, source=chosen)
        _evaluate(session, "testing the chosen network", [tested])
    trials = session.trials(SearchStage.FINAL)
    for name in (Origin.FOUND, Origin.REFERENCE):
        if not any(trial.origin == name and trial.state is State.COMPLETE for trial in trials):
            failed = [trial for trial in trials if trial.state is State.FAILED]
            raise RunError(f"the final training of the {name} network failed: {failed[-1].error}")
    forget_all_checkpoints(session)


def _wanted(session: Session, best: list[Trial]) -> list[_Wanted]:
    """Who is trained; the reference comes last."""
    reference = _going_on(session, Origin.REFERENCE, *_reference(session))
    if not session.config.races:
        finalists = best[: session.config.final.top_k]
        origin = Origin.FOUND if len(finalists) == 1 else Origin.CANDIDATE
        return [*(_going_on(session, origin, trial.architecture, trial) for trial in finalists), reference]
    chosen = choose_finalists(session, best)
    known = {trial.architecture for trial in chosen.best}
    baseline = None if chosen.baseline in known else chosen.baseline
    return [
        *(_going_on(session, Origin.CANDIDATE, trial.architecture, trial) for trial in chosen.best),
        *([] if baseline is None else [_Wanted(origin=Origin.BASELINE, architecture=baseline, source=None)]),
        reference,
    ]


def _recorded(session: Session) -> list[_Wanted]:
    """Who was chosen by an earlier coordinator: measured again, others might be.

    They are recorded all at once, the reference last; without it the choice was not ended.
    """
    trials = [trial for trial in session.trials(SearchStage.FINAL) if not _is_test(session, trial)]
    has_reference = any(trial.origin == Origin.REFERENCE for trial in trials)
    # Earlier versions recorded those of a walk one by one.
    if not trials or (session.config.races and not has_reference):
        return []
    once = {(trial.origin, trial.architecture): trial for trial in trials}  # one that failed was begun again
    recorded = [
        _Wanted(
            origin=trial.origin,
            architecture=trial.architecture,
            source=None if trial.parent is None else session.trial(trial.parent),
        )
        for trial in once.values()
    ]
    return recorded if has_reference else [*recorded, _going_on(session, Origin.REFERENCE, *_reference(session))]


def _is_test(session: Session, trial: Trial) -> bool:
    """Whether a final trial is but the test of one that was chosen."""
    return trial.parent is not None and session.trial(trial.parent).stage is SearchStage.FINAL


def has_chosen(session: Session) -> bool:
    """Whether it is recorded who is trained in the end."""
    return bool(_recorded(session))


def _reference(session: Session) -> tuple[Architecture, Trial | None]:
    """What everything is compared with, and the trial that trained it before."""
    for origin in (Origin.START, Origin.REFERENCE):
        if trials := [
            trial for trial in session.index.of_origin(SearchStage.BLOCKS, origin) if trial.state is State.COMPLETE
        ]:
            return trials[-1].architecture, trials[-1]
    return session.space.reference, None


def _going_on(session: Session, origin: str, arch: Architecture, source: Trial | None) -> _Wanted:
    """A network to train, from scratch or, where that was asked for, going on from the trial that found it."""
    # Who was trained nowhere before has nothing to go on from.
    goes_on = session.config.final.weights != "scratch" and source is not None and source.weights is not None
    return _Wanted(origin=origin, architecture=arch, source=source if goes_on else None)


def _recipe(session: Session, trial: Trial) -> Recipe | None:
    """How a final network is trained; None for the chosen candidate, whose weights are tested as they are."""
    config, source = session.config, None if trial.parent is None else session.trial(trial.parent)
    if source is not None and source.stage is SearchStage.FINAL:
        return None
    if source is not None and source.origin == Origin.START and config.folds > 1:
        # Where it was trained as long it is tested as it is, on all images, too.
        return None if config.final_recipe == config.start_recipe else config.final_recipe
    if source is None or config.final.weights == "continued":
        return config.final_recipe
    return replace(config.fine_tuning_recipe, images=config.final.images)


def _chosen(session: Session) -> Trial | None:
    """The candidate that the reward split chooses, None where there was no choice, or none could be trained."""
    failed = any(trial.state is State.FAILED for trial in session.index.of_origin(SearchStage.FINAL, Origin.CANDIDATE))
    trained = [
        trial
        for origin in (Origin.CANDIDATE, Origin.BASELINE, Origin.REFERENCE)
        for trial in session.index.of_origin(SearchStage.FINAL, origin)
        if trial.state is State.COMPLETE and may_be_chosen(trial, session.config, session.start.target_ms)
    ]
    if not trained or (failed and not any(trial.origin == Origin.CANDIDATE for trial in trained)):
        return None  # that nothing but the references could be trained is no finding
    if session.config.races:
        best = ranked(session, trained, {trial.number: _reward(session, trial) for trial in trained})[0]
    else:
        best = max(trained, key=lambda trial: trial.scores.top1 or 0.0)
    chosen = best if session.config.final.prefer == "accuracy" else _fastest_alike(session, best, trained)
    judged = len(session.evaluations.images.splits.reward)
    session.listener.note(
        f"of {len(trained)} final networks that of trial {chosen.number} is chosen: top-1 {chosen.scores.top1:.2%} "
        f"({session.config.judge.of_stage(SearchStage.FINAL)}, {judged:,} images)"
    )
    if chosen.origin in (Origin.BASELINE, Origin.REFERENCE):
        kind = "scaled reference" if chosen.origin == Origin.BASELINE else "reference"
        session.listener.note(f"that is the {kind}: the search brought nothing over it")
    return chosen


def _fastest_alike(session: Session, best: Trial, trained: list[Trial]) -> Trial:
    """The fastest of those that the images which judged them do not tell apart from the best one (95 %, paired).

    Who was not measured before it was trained, such as the baseline, has its predicted latency.
    """

    def judged(trial: Trial) -> np.ndarray:
        content = session.start.files.judged(trial.number).read_bytes()
        return Judgement.from_bytes(content).log_likelihoods

    alike = [
        trial for trial in trained if trial is best or paired_mean_difference(judged(best), judged(trial)).low <= 0.0
    ]
    return min(alike, key=lambda trial: _latency_ms(session, trial))


def _latency_ms(session: Session, trial: Trial) -> float:
    """Of a finalist, as it was measured before it was trained, where it was."""
    return (trial if trial.parent is None else session.trial(trial.parent)).scores.latency_ms


def _reward(session: Session, trial: Trial) -> float:
    scores = replace(trial.scores, latency_ms=_latency_ms(session, trial))
    return session.reward.of(scores, session.start.target_ms) or 0.0


def _evaluate(session: Session, title: str, wanted: list[_Wanted]) -> None:
    """Evaluate final networks, but for those that are recorded already; one that failed is tried again."""
    recorded = {
        (trial.origin, trial.architecture)
        for trial in session.trials(SearchStage.FINAL)
        if trial.state is not State.FAILED
    }
    asked = {(each.origin, each.architecture) for each in wanted}
    new = [each for each in wanted if (each.origin, each.architecture) not in recorded]
    session.listener.begin(title, len(wanted))

    def begun(each: _Wanted) -> Trial:
        return session.new_trial(SearchStage.FINAL, each.architecture, origin=each.origin, parent=each.source)

    # All at once, so that whoever resumes it knows who was chosen; after a race what takes longest is trained first.
    waiting = [begun(each) for each in new]
    if session.config.races:
        waiting.sort(key=lambda trial: trial.parent is not None)

    def ask() -> Trial | None:
        return waiting.pop(0) if waiting else None

    def evaluation_of(trial: Trial) -> Evaluation:
        recipe = _recipe(session, trial)
        continues = recipe is not None and session.config.final.weights == "continued"
        key = None if trial.parent is None or continues else session.trial(trial.parent).evaluation_key
        return session.evaluations.of(trial.architecture, recipe, train_images=None, parent_key=key, is_final=True)

    def done() -> int:
        ended = [trial for trial in session.trials(SearchStage.FINAL) if trial.state is State.COMPLETE]
        return sum((trial.origin, trial.architecture) in asked for trial in ended)

    run_trials(
        session,
        SearchStage.FINAL,
        ask,
        evaluation_of,
        advanced=lambda running: session.listener.advance(done() + running),
    )
    session.listener.end()


def export_found(session: Session) -> ExportRecord:
    """Write the found network's files into the run folder and record them."""
    recorded = RecordedSearch.read(session.store, session.record.name)
    found, _ = recorded.both()
    weights, images = read_weights(recorded.files.weights(found)), session.evaluations.images
    files = export_network(
        session.start.run_folder,
        found.architecture,
        weights,
        images.dataset.classes,
        images.dataset.preprocess,
        export_metadata(session.record, found, recorded.fingerprint),
        temperature=_temperature(session, found, weights),
    )
    return session.store.trials.add_export(
        session.record.id, found.number, folder=session.start.run_folder, files=files
    )


def _temperature(session: Session, found: Trial, weights: Weights) -> float:
    """By images that the network was not trained on; in folds by those that its like were not trained on."""
    images, files = session.evaluations.images, session.start.files
    if images.folds == 1:
        return temperature_of(load_model(found.architecture, weights), images.dataset, images.splits.reward)
    trial: Trial | None = found
    while trial is not None:  # who is tested as it was trained has that of its training
        if (temperature := temperature_of_weights(files.weights(trial))) is not None:
            return temperature
        trial = None if trial.parent is None else session.trial(trial.parent)
    return 1.0


def export_spec(session: Session, best: Trial) -> ExportRecord:
    """Write the best network's spec, which is all there is where a user's own evaluator judged it without data."""
    folder = session.start.run_folder
    text = write_spec(best.architecture, "spec")
    (folder / SPEC).write_text(text, encoding="utf-8")
    files = {SPEC: hashlib.sha256(text.encode()).hexdigest()}
    return session.store.trials.add_export(session.record.id, best.number, folder=folder, files=files)
