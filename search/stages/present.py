"""The user's present model in a search: asked about the test split, and measured wherever the final networks are."""

from collections.abc import Mapping, Sequence

import numpy as np

from latency.kit import OtherModel
from latency.results import Results
from search.evaluation.data import Images
from search.present import NAME, PresentModel
from search.reports.recorded_search import RecordedSearch
from search.stages.session import Session
from search.trial import PresentMeasurement, PresentResult
from space.errors import DataError, InvalidResults, RunError
from space.paths import expanded
from trainer.data.originals import Originals
from trainer.data.prepare import printable
from trainer.training.judgement import Judgement

_TOLD_EVERY = 32
_UNLIKELY = -1000.0


def ask_present(session: Session) -> None:
    """Ask it about every picture of the test split, once, as it takes them, and record what it has right.

    What it has answered is kept as it comes, so that a search that is stopped goes on behind that.

    Raises:
        Interrupted: the search was stopped.
        DataError: the pictures have changed, or the model fails on one of them.
        RunError: what was kept before is of other pictures.
    """
    config = session.config.present
    if config.sha256 is None or session.store.trials.present(session.record.id) is not None:
        return
    assert isinstance(session.data, Images), "it is tested on pictures"
    model, dataset = PresentModel.stored(session.start.files, config.sha256), session.data.dataset
    order, test = model.order_of(dataset.classes), session.data.splits.test
    data = session.config.data
    originals = Originals(dataset, expanded(data.data_dir) if data.data_dir else None, skip_damaged=data.skip_damaged)
    labels, path, unfit = np.asarray(dataset.labels()), session.start.files.present_tested, []
    done = path.stat().st_size if path.exists() else 0
    if done > len(test):
        raise RunError(
            f"{path} has more than the {len(test):,} answers that there are; remove it, and resume the search"
        )
    session.listener.begin(f"testing {model.name}", len(test))
    with path.open("ab") as file:
        for place in range(done, len(test)):
            if place % _TOLD_EVERY == 0:
                file.flush()
                session.end_if_stopping()
                session.listener.advance(place)
            index = int(test[place])
            try:
                picture = originals.picture(index, model.preprocess)
            except DataError as error:
                originals.picture(index, dataset.preprocess)  # what is damaged or gone is no fault of the model
                unfit.append(printable(str(error)))
                probabilities = np.full(len(order), np.nan)
            else:
                probabilities = model.probabilities(picture)[order]
            file.write(_judged(probabilities, int(labels[index])).to_bytes())
    session.listener.end()
    if unfit:
        session.listener.note(f"{len(unfit)} pictures count as wrong for {model.name}: {unfit[0]}")
    right = Judgement.from_bytes(path.read_bytes()).right
    session.store.trials.put_present(
        session.record.id,
        PresentResult(name=model.name, sha256=model.sha256, correct=int(right.sum()), total=len(test)),
    )


def _judged(probabilities: np.ndarray, label: int) -> Judgement:
    """What is kept of one answer; one that is no number is wrong."""
    if not np.isfinite(probabilities).all():
        return Judgement(right=np.array([False]), log_likelihoods=np.array([_UNLIKELY]))
    likelihood = np.log(max(float(probabilities[label]), np.finfo(np.float64).tiny))
    right = np.array([probabilities.argmax() == label])
    return Judgement(right=right, log_likelihoods=np.array([min(float(likelihood), 0.0)]))


def others_of(search: Session | RecordedSearch) -> Mapping[str, OtherModel]:
    """What is measured beside a search's networks and is none of them."""
    sha256 = search.config.present.sha256
    return {} if sha256 is None else {NAME: PresentModel.stored(search.start.files, sha256).as_measured()}


def measured_in(recorded: RecordedSearch, results: Results) -> tuple[PresentMeasurement, Sequence[float]] | None:
    """What results say of it, with the samples; None where the search knows of none.

    Raises:
        InvalidResults: they lack it, or are of another one.
    """
    sha256, found = recorded.config.present.sha256, results.others.get(NAME)
    if sha256 is None or NAME in results.refused:
        return None
    if found is None or found.sha256 != sha256:
        raise InvalidResults(
            f"the present model in these results is not that of '{recorded.record.name}'; run the kit that it made"
        )
    return PresentMeasurement.of(found.measurement), found.measurement.warm_wall
