"""Starting from earlier searches: their trials are taken over, and their winners are tried first."""

from search.begun import can_begin
from search.evaluation.job import Evaluation
from search.record.rows import FoundEvaluation, SearchRecord
from search.reports.recorded_search import RecordedSearch
from search.stages.earlier.reuse import has_weights
from search.stages.session import Session
from search.trial import Origin, SearchStage, State
from space.arch import Architecture
from space.errors import StoreError
from space.keys import keys_of


def networks_to_enqueue(session: Session) -> tuple[Architecture, ...]:
    """What the configuration names, and then the winner of each search that this one starts from, once each."""
    found = dict.fromkeys(session.config.blocks.networks(session.space))
    for record in _sources(session):
        winner = _winner(session, record)
        if winner is not None and _can_be_tried(session, winner):
            found[winner] = None
    return tuple(found)


def _can_be_tried(session: Session, arch: Architecture) -> bool:
    """Of the same task; with something to begin with, where all do: a supernet has weights for members alone."""
    space = session.space
    if session.config.init is not None and not can_begin(arch, space.reference):
        return False
    if session.config.supernet is not None:
        return arch in space
    return (arch.resolution, arch.in_channels, arch.num_classes) == (
        space.resolution,
        space.in_channels,
        space.num_classes,
    )


def _sources(session: Session) -> list[SearchRecord]:
    """The searches that this one starts from; of its own group, those that there are already."""
    found = []
    for name in session.config.blocks.start_from:
        try:
            found.append(session.store.searches.get(name))
        except StoreError:
            if session.record.group is None:
                raise
    return found


def _winner(session: Session, record: SearchRecord) -> Architecture | None:
    """The found network of a finished search, else nothing: what it tried is adopted anyway."""
    recorded = RecordedSearch(session.store, record)
    return recorded.found.architecture if recorded.has_ended else None


def transfer_trials(session: Session) -> None:
    """Take over every complete block-level trial of the searches that this one starts from, where it is comparable.

    That is where an equal evaluation would be made here: same data, recipe and evaluator. They cost nothing, teach the
    sampler, and do not count towards the trials that were asked for. Whatever their latency, they may be recorded: they
    are trained already.
    """
    taken = other = 0
    for record in _sources(session):
        if record.id == session.record.id or record.start is None:
            continue
        for source in session.store.trials.of(record.id, SearchStage.BLOCKS):
            if (
                source.state is not State.COMPLETE
                or source.origin == Origin.PROMOTED  # later rungs are taken over when their turn comes
                or session.index.last_of(SearchStage.BLOCKS, source.architecture) is not None
            ):
                continue
            found = FoundEvaluation(trial=source, run_folder=record.start.run_folder)
            evaluation = session.evaluations.proxy(source.architecture)
            if evaluation.key != source.evaluation_key or not _is_usable(session, found, evaluation):
                other += 1
                continue
            is_reference = session.config.blocks.reference and source.architecture == session.space.reference
            origin = Origin.REFERENCE if is_reference else Origin.ADOPTED
            session.take_over(session.new_trial(SearchStage.BLOCKS, source.architecture, origin=origin), found)
            taken += 1
    if taken or other:
        session.listener.note(
            f"{taken} trials are reused from {', '.join(session.config.blocks.start_from)}"
            + (
                f"; {other} are not, as they were evaluated differently, or their weights or blocks are missing here"
                if other
                else ""
            )
        )


def _is_usable(session: Session, found: FoundEvaluation, evaluation: Evaluation) -> bool:
    has = has_weights(found) or not evaluation.leaves_weights
    return has and not session.latency.missing(keys_of(found.trial.architecture))
