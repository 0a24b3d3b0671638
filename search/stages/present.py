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
from space.errors import InvalidResults
from space.paths import expanded
from trainer.data.originals import pictures_for
from trainer.training.judgement import Judgement
from trainer.training.weight_files import write_whole

_TOLD_EVERY = 32


def test_present(session: Session) -> None:
    """Ask it about every picture of the test split, once, as it takes them, and record what it has right.

    Raises:
        Interrupted: the search was stopped.
        DataError: a picture cannot be read any more.
    """
    config = session.config.present
    if config.sha256 is None or session.store.trials.present(session.record.id) is not None:
        return
    assert isinstance(session.data, Images), "it is tested on pictures"
    model, dataset = PresentModel.stored(session.start.files, config.sha256), session.data.dataset
    order, test = model.order_of(dataset.classes), session.data.splits.test
    labels, data_dir = np.asarray(dataset.labels())[test], session.config.data.data_dir
    pictures = pictures_for(dataset, test.tolist(), model.preprocess, expanded(data_dir) if data_dir else None)
    session.listener.begin(f"testing {model.name}", len(test))
    right, likelihoods = np.zeros(len(test), dtype=bool), np.zeros(len(test))
    for place, picture in enumerate(pictures):
        if place % _TOLD_EVERY == 0:
            session.end_if_stopping()
            session.listener.advance(place)
        probabilities = model.probabilities(picture)[order]
        right[place] = probabilities.argmax() == labels[place]
        likelihoods[place] = np.log(max(float(probabilities[labels[place]]), np.finfo(np.float64).tiny))
    session.listener.end()
    judged = Judgement(right=right, log_likelihoods=np.minimum(likelihoods, 0.0))
    write_whole(session.start.files.present_tested, judged.to_bytes())
    session.store.trials.put_present(
        session.record.id,
        PresentResult(name=model.name, sha256=model.sha256, correct=int(right.sum()), total=len(test)),
    )


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
    if sha256 is None:
        return None
    if found is None or found.sha256 != sha256:
        raise InvalidResults(
            f"the present model in these results is not that of '{recorded.record.name}'; run the kit that it made"
        )
    return PresentMeasurement.of(found.measurement), found.measurement.warm_wall
