"""Evaluations that the record holds already: their results and files stand in for a training."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from search.record.rows import FoundEvaluation
from search.run_folder import RunFolder, weights_name
from search.trial import State, Trial
from trainer.training.weight_files import evaluation_of_weights


def taken(trial: Trial, found: FoundEvaluation, files: RunFolder) -> Trial:
    """A trial as completed by an evaluation that the record holds, with its files in this run folder, too."""
    name = None
    if found.weights_file is not None:
        name = weights_name(trial.number)
        _share(found.weights_file, files.new_weights(trial.number))
        source = RunFolder(found.run_folder)
        for kept, mine in (
            (source.judged(found.trial.number), files.judged(trial.number)),
            (source.checkpoint(found.trial.number), files.checkpoint(trial.number)),
        ):
            if kept.is_file():
                _share(kept, mine)
    return replace(
        trial,
        state=State.COMPLETE,
        scores=trial.scores.judged_as(found.trial.scores),
        images_seen=found.trial.images_seen,
        weights=name,
        reused_from=found.trial.id,
    )


def has_weights(found: FoundEvaluation) -> bool:
    """Whether an evaluation's weights are still there, and are its own: a run folder may have been made anew."""
    key = found.trial.evaluation_key
    return found.weights_file is not None and evaluation_of_weights(found.weights_file) == key


def _share(source: Path, target: Path) -> None:
    """Have a file under another name, too: as a link, since weights are replaced and never changed, or as a copy."""
    if source == target:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, draft)
    draft.replace(target)
