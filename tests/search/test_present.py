"""The model that a user has at present, whoever made it: read, tested and measured beside what a search finds."""

import json
import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

import mobilenas
from search.config.load import load_config
from search.config.present import PresentConfig
from search.events import Listener
from search.plan import Speed, look_up, make_plan
from search.present import PresentModel
from search.protocols import CERTIFICATE
from search.record.store import Store
from search.reports.history import History
from search.reports.markdown import render
from search.reports.recorded_search import RecordedSearch
from search.reports.summary import summary_of
from search.run_folder import RunFolder
from search.stages.present import _judged, ask_present
from search.trial import PresentResult
from service.commands.netadapt import NetAdaptRequest, _configured, _Source
from service.commands.search import configuration
from service.report.comparing.page import lead
from service.report.comparing.table import compared, print_comparison
from space.errors import InvalidConfig, MobilenasError
from tests.classifiers import classifier, with_metadata
from tests.search.inline import killed_after, use_inline
from tests.search.races import race_in
from tests.tiny import dark_and_bright
from trainer.data.dataset import TEST
from trainer.data.imagefolder import list_imagefolder
from trainer.data.originals import Originals
from trainer.data.preprocess import IMAGENET, Preprocess, normalise
from trainer.training.judgement import Judgement

HALF = Preprocess(resolution=16, resize=16, crop=16, pad=0, channels="RGB", mean=(0.5,) * 3, std=(0.25,) * 3)


RED_OR_GREEN = np.array([[1, 0], [0, 1], [0, 0]], np.float32)


def asked(model: Path, labels: Path | None = None, preprocess: str | None = None) -> PresentConfig:
    """What a user says of their model."""
    named = None if labels is None else str(labels)
    return PresentConfig(model=str(model), labels=named, preprocess=preprocess, sha256=None)


@pytest.fixture
def said(tmp_path: Path) -> dict[str, Any]:
    """Labels and preprocessing in files of their own."""
    (tmp_path / "labels.txt").write_text("dark\nbright\n")
    (tmp_path / "preprocess.json").write_text(HALF.to_json())
    return {"labels": tmp_path / "labels.txt", "preprocess": str(tmp_path / "preprocess.json")}


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("side", "batch", "open_channels"), [(16, 1, False), ("s", "b", False), ("s", "b", True)])
def test_any_classifier_of_pictures_is_asked_as_it_was_made(
    tmp_path: Path,
    said: dict[str, Any],
    *,
    softmax: bool,
    channels_last: bool,
    side: int | str,
    batch: int | str,
    open_channels: bool,
) -> None:
    """Channels first or last, sides and batch fixed or open, with its softmax inside or not: the same as by numpy."""
    matrix = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    path = classifier(
        tmp_path / "mine.onnx",
        matrix,
        side=side,
        batch=batch,
        channels_last=channels_last,
        softmax=softmax,
        open_channels=open_channels,
    )
    model = PresentModel.named(asked(path, **said))
    image = np.random.default_rng(1).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    logits = normalise(image[None], HALF)[0].mean(axis=(1, 2)).astype(np.float64) @ matrix
    expected = np.exp(logits) / np.exp(logits).sum()
    assert model.probabilities(image) == pytest.approx(expected, abs=1e-5)
    assert model.as_measured().shape == ((1, 16, 16, 3) if channels_last else (1, 3, 16, 16))
    assert model.order_of(["bright", "dark"]).tolist() == [1, 0]


def test_what_the_file_says_of_itself_needs_not_be_said(tmp_path: Path) -> None:
    """Labels and preprocessing are taken from the metadata, which win nothing over what the user names."""
    told = {"labels": json.dumps(["a", "b"]), "preprocess": HALF.to_json()}
    path = with_metadata(classifier(tmp_path / "mine.onnx", side=32, also=True), **told | {"preprocess": "{"})
    with pytest.raises(MobilenasError, match="preprocessing is not readable"):
        PresentModel.named(asked(path))
    (tmp_path / "labels.txt").write_text("c\nd")
    model = PresentModel.named(asked(path, tmp_path / "labels.txt", "imagenet"))
    assert model.labels == ("c", "d")
    assert model.preprocess == replace(IMAGENET, resolution=32, crop=32, resize=37)
    model = PresentModel.named(asked(with_metadata(classifier(path, side="side"), **told)))
    assert (model.labels, model.preprocess) == (("a", "b"), HALF)
    assert PresentModel.named(asked(path, preprocess="imagenet")).preprocess == IMAGENET, "224 px where any will do"


def preprocessed(**changes: Any) -> Callable[[Path], object]:  # noqa: ANN401 - any JSON
    """A preprocess.json beside the model, with changes."""
    return lambda path: (path.parent / "preprocess.json").write_text(json.dumps(json.loads(HALF.to_json()) | changes))


def external(path: Path) -> None:
    """A model whose weights lie in another file, in the folder where the user works."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="mine.data", size_threshold=0)
    os.chdir(path.parent)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda path: classifier(path, inputs=2), r"mine.onnx has 2 inputs \(picture0, picture1\)"),
        (lambda path: classifier(path, kind=TensorProto.UINT8), r"takes tensor\(uint8\) of shape"),
        (lambda path: classifier(path, batch=8), "give one that takes one picture at a time"),
        (lambda path: classifier(path, side=9000), "takes pictures of 9000 px; at most"),
        (lambda path: classifier(path, np.full((3, 2), np.nan, np.float32)), "a black picture with what is no number"),
        (external, r"cannot be run by ONNX Runtime .*external_data=False"),
        (lambda path: classifier(path, side=24), r"which its preprocessing to 3 channels of 16 x 16 px does not make"),
        (lambda path: classifier(path, np.ones((3, 5), np.float32)), "answers with 1x5, where one number for each of"),
        (lambda path: classifier(path, np.ones((1, 2), np.float32)), "does not make"),
        (lambda path: path.write_bytes(b"no model"), "cannot be run by ONNX Runtime"),
        (lambda path: path.unlink(missing_ok=True), "cannot be read"),
        (lambda path: (path.parent / "labels.txt").write_text("dark\ndark"), "names 'dark' twice"),
        (lambda path: (path.parent / "labels.txt").write_text("dark"), "has 1 labels"),
        (lambda path: (path.parent / "labels.txt").unlink(), "labels.txt cannot be read"),
        (lambda path: (path.parent / "preprocess.json").write_text("{}"), "the preprocessing is not readable"),
        (lambda path: (path.parent / "preprocess.json").write_text("[" * 100_000), "the preprocessing is not readable"),
        (preprocessed(resolution=16.0), "they must be whole numbers of px"),
        (preprocessed(resolution=10**30, pad=10**30), "they must be whole numbers of px, at most"),
        (preprocessed(mean=[float("nan")] * 3), "need one value per channel"),
    ],
)
def test_what_is_no_classifier_of_pictures_is_refused(
    tmp_path: Path,
    said: dict[str, Any],
    change: Callable[[Path], object],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line, which names what is wrong."""
    monkeypatch.chdir(tmp_path)
    path = classifier(tmp_path / "mine.onnx")
    change(path)
    with pytest.raises(MobilenasError, match=fault) as refused:
        PresentModel.named(asked(path, **said))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("missing", "option"), [("labels", "--baseline-labels"), ("preprocess", "--baseline-prepr")])
def test_what_nobody_says_is_asked_for(tmp_path: Path, said: dict[str, Any], missing: str, option: str) -> None:
    """Nothing is guessed: other labels or other pixels would make a good model look bad."""
    with pytest.raises(MobilenasError, match=option):
        PresentModel.named(asked(classifier(tmp_path / "mine.onnx"), **said | {missing: None}))


def test_a_plan_refuses_a_model_of_other_classes(tmp_path: Path, said: dict[str, Any]) -> None:
    """Before anything is trained; labels of no model are refused, too, and a model where there are no pictures."""
    photos = dark_and_bright(tmp_path / "photos", each=20, pixels=16)
    config = race_in(tmp_path, photos)
    present = {"model": str(classifier(tmp_path / "mine.onnx")), "preprocess": said["preprocess"]}
    (tmp_path / "others.txt").write_text("dark\nlight\n")
    content = config | {"present": present | {"labels": str(tmp_path / "others.txt")}}
    with pytest.raises(
        MobilenasError, match=r"knows 2 classes, the data have 2 \(only it has light; only the data have"
    ):
        look_up(load_config(content))
    for wrong in ({"labels": "labels.txt"}, {"sha256": "0" * 64}):
        with pytest.raises(InvalidConfig, match=r"present.*is said of present\.model"):
            load_config(config | {"present": wrong})
    nothing = {"source": "none", "resolution": 16, "channels": 3, "classes": 2}
    with pytest.raises(InvalidConfig, match=r"data\.source none has none"):
        load_config(config | {"present": present, "data": nothing, "evaluator": "madds:ms", "race": {"rungs": []}})


@pytest.mark.slow
def test_it_stands_beside_what_is_found(
    tmp_path: Path,
    said: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has right what it has right by hand on the same pictures, in each report, also of a search that was killed."""
    use_inline(monkeypatch)
    photos = dark_and_bright(tmp_path / "photos", each=60, pixels=20)
    model = classifier(tmp_path / "mine|.onnx", RED_OR_GREEN, channels_last=True)
    config = race_in(tmp_path, photos) | {"present": {"model": str(model)} | {k: str(v) for k, v in said.items()}}
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with killed_after(monkeypatch, 8), pytest.raises(KeyboardInterrupt):
        mobilenas.search(config, name="mine", database=url, runs=tmp_path / "runs")
    model.unlink()
    found = mobilenas.resume("mine", database=url, runs=tmp_path / "runs")
    inputs = look_up(load_config(config | {"present": {}}))
    dataset, splits = inputs.data.dataset, inputs.data.splits  # type: ignore[union-attr]
    originals = Originals(dataset, None)
    pictures = np.stack([originals.picture(int(index), HALF) for index in splits.test])
    # Red beside green, which says nothing: it has some right and some wrong.
    red, green, _ = np.moveaxis(normalise(pictures, HALF).mean(axis=(2, 3), dtype=np.float64), 1, 0)
    expected = np.where(red < green, list(dataset.classes).index("bright"), list(dataset.classes).index("dark"))
    right = expected == np.asarray(dataset.labels())[splits.test]
    assert 0 < right.mean() < 1
    with closing(Store.open(url)) as store:
        recorded, history = RecordedSearch.read(store, "mine"), History.read(store, "mine")
        result = store.trials.present(recorded.record.id)
        assert result == PresentResult(
            name="mine/.onnx",
            sha256=recorded.config.present.sha256 or "",
            correct=int(right.sum()),
            total=len(right),
        )
        assert np.array_equal(history.present_right(), right)
        summary, text = summary_of(recorded), render(recorded)
    assert summary.present is not None
    assert summary.present.test_top1 == right.mean()
    mine = (summary.found.test_top1 or 0) - right.mean()
    assert summary.present.found_minus_present == pytest.approx(mine)
    assert "| present model: mine/.onnx |" in text
    assert "minus that of the present model, mine/.onnx, on the same" in text
    assert "present model: mine/.onnx" in (found.folder / "report.html").read_text(encoding="utf-8")
    assert found.present == mobilenas.PresentModel(name="mine/.onnx", top1_test=float(right.mean()), measured_ms={})
    beside = compared([history, history], None)
    assert [each["present"]["test_top1"] for each in beside["searches"]] == [right.mean()] * 2
    print_comparison([history, history], beside)
    assert f"{right.mean():.2%}" in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "mine, present model: mine/.onnx" in str(lead([history, history]))
    source = _Source(
        architecture=recorded.found.architecture,
        weights=recorded.files.weights(recorded.found),
        config=recorded.config,
        classes=None,
        preprocess=None,
    )
    asked = dict.fromkeys(field.name for field in fields(NetAdaptRequest)) | {"source": "mine", "target": "80%"}
    for named in (None, str(tmp_path / "other.onnx")):
        request = NetAdaptRequest(**asked | {"present": named and {"model": named}})  # type: ignore[arg-type]
        present = _configured(source, request, "0" * 64).present
        assert (present.model, present.labels, present.sha256) == (named, None, None), "a walk from it names its own"
    (found.folder / "present.onnx").write_bytes(b"another")
    with pytest.raises(MobilenasError, match="is not the model that the search began with"):
        PresentModel.stored(recorded.files, result.sha256)


def test_pictures_come_again_as_they_were_prepared(tmp_path: Path) -> None:
    """By the same preprocessing the same pixels, damaged pictures left out; what has changed since is refused."""
    photos = dark_and_bright(tmp_path / "photos", each=12, pixels=24)
    (photos / "dark" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    config = race_in(tmp_path, photos)
    config["data"] |= {"skip_damaged": True}
    dataset = look_up(load_config(config)).data.dataset  # type: ignore[union-attr]
    originals, indices = Originals(dataset, None, skip_damaged=True), [22, 3, 7]
    again = np.stack([originals.picture(index, dataset.preprocess) for index in indices])
    assert np.array_equal(again, dataset.images()[indices])
    grey = replace(HALF, channels="L", mean=(0.5,), std=(0.25,), resolution=20, pad=2)
    assert originals.picture(0, grey).shape == (1, 20, 20)
    (photos / "bright" / "3.png").rename(photos / "bright" / "99.png")
    with pytest.raises(MobilenasError, match="has changed since it was prepared"):
        Originals(dataset, None, skip_damaged=True)


def test_another_model_on_the_command_line_is_another_one(tmp_path: Path) -> None:
    """What the configuration says of its own model is not said of that one; paths mean the same from anywhere."""
    said = {"model": "old.onnx", "labels": "old.txt", "preprocess": "imagenet"}
    rest = dict.fromkeys(("name", "device", "data", "data_dir", "resolution", "target", "seed", "workers"))
    content = {"present": said}
    kept = configuration(content, **rest, baseline_labels=tmp_path / "new.txt").present  # type: ignore[arg-type]
    assert (kept.model, kept.labels) == (str(Path.cwd() / "old.onnx"), str(tmp_path / "new.txt"))
    assert kept.preprocess == "imagenet"
    new = configuration(content, **rest, baseline=tmp_path / "imagenet").present  # type: ignore[arg-type]
    assert (new.model, new.labels, new.preprocess) == (str(tmp_path / "imagenet"), None, None)


def test_answers_that_are_no_numbers_are_wrong() -> None:
    """Whatever the class: none of them is the largest."""
    judged = [_judged(np.array([np.nan, 0.5]), label) for label in (0, 1)]
    assert not any(each.right.any() for each in judged)
    assert all(np.isfinite(Judgement.from_bytes(each.to_bytes()).log_likelihoods).all() for each in judged)
    assert _judged(np.array([0.25, 0.75]), 1).right.all()


def test_what_a_file_says_does_not_steer_a_terminal(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Labels with control characters are told as text, in one line."""
    photos = dark_and_bright(tmp_path / "photos", each=20, pixels=16)
    told = {"labels": json.dumps(["dark", "\x1b]0;mine\x07"]), "preprocess": HALF.to_json()}
    path = with_metadata(classifier(tmp_path / "mine.onnx"), **told)
    done = request.getfixturevalue("mobilenas")(
        "plan", "--data", f"imagefolder:{photos}", "--resolution", "96", "--baseline", path
    )
    assert done.code == 2
    assert "\\x1b]0;mine" in done.err
    assert "\x1b" not in done.err


def test_a_plan_reckons_with_it(tmp_path: Path, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow model takes its time in the end, for each picture of the test split."""
    photos = dark_and_bright(tmp_path / "photos", each=20, pixels=16)
    present = {"model": str(classifier(tmp_path / "mine.onnx")), **{key: str(value) for key, value in said.items()}}
    inputs = look_up(load_config(race_in(tmp_path, photos) | {"present": present}))
    speed = Speed(images_per_second=1000, table_minutes=0, blocks_in_space=0, blocks_to_measure=0, range=None)
    assert inputs.present is not None
    assert inputs.present.seconds > 0
    monkeypatch.setattr(PresentModel, "seconds", 30.0)
    without, slow = (make_plan(replace(inputs, present=model), speed) for model in (None, replace(inputs.present)))
    assert slow.measuring_minutes - without.measuring_minutes == pytest.approx(6 / 2), "3 test pictures of each class"
    on_a_device = replace(inputs, config=inputs.config.model_copy(update={"latency": None}))
    without, slow = (make_plan(replace(on_a_device, present=each), speed) for each in (None, replace(inputs.present)))
    visits = CERTIFICATE.rounds * (CERTIFICATE.warm + 1) * 30 / 60
    assert slow.measuring_minutes - without.measuring_minutes > 6 / 2 + min(visits, 5), "it is measured, too"


class Told(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """See `Listener`."""
        self.notes.append(text)


def test_a_test_goes_on_where_it_was_stopped(
    tmp_path: Path, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is not asked again; a picture that cannot be made so large counts as wrong, and that is told."""
    photos = dark_and_bright(tmp_path / "photos", each=20, pixels=16)
    listed = list_imagefolder(photos)
    unfit = next(path for path, role in zip(listed.files, listed.roles, strict=True) if role == TEST)
    Image.new("RGB", (16_000, 4)).save(unfit)
    monkeypatch.setattr("trainer.data.preprocess.MAX_PICTURE_PIXELS", 2_000_000)
    present = {
        "model": str(classifier(tmp_path / "mine.onnx", RED_OR_GREEN, side="side")),
        "labels": str(said["labels"]),
    }
    (tmp_path / "large.json").write_text(replace(HALF, resolution=32, resize=32, crop=32).to_json())
    present["preprocess"] = str(tmp_path / "large.json")
    inputs = look_up(load_config(race_in(tmp_path, photos) | {"present": present}))
    model, files = inputs.present, RunFolder(tmp_path / "run")
    assert model is not None
    model.store(files)
    listener, kept, asked = Told(), dict[int, PresentResult](), list[int]()
    session = SimpleNamespace(
        config=inputs.config.model_copy(
            update={"present": inputs.config.present.model_copy(update={"sha256": model.sha256})}
        ),
        data=inputs.data,
        start=SimpleNamespace(files=files),
        record=SimpleNamespace(id=1),
        listener=listener,
        store=SimpleNamespace(trials=SimpleNamespace(present=kept.get, put_present=kept.__setitem__)),
        end_if_stopping=lambda: None,
    )
    probabilities = PresentModel.probabilities

    def counted(self: PresentModel, image: np.ndarray) -> np.ndarray:
        asked.append(len(asked))
        return probabilities(self, image)

    monkeypatch.setattr(PresentModel, "probabilities", counted)
    run = cast("Callable[[object], None]", ask_present)
    run(session)
    whole, first = files.present_tested.read_bytes(), kept.pop(1)
    assert first.total == len(whole) == 6
    assert 0 < first.correct < 6
    wide = inputs.data.splits.test.tolist().index(listed.files.index(unfit))  # type: ignore[union-attr]
    assert not Judgement.from_bytes(whole).right[wide]
    assert (len(asked), len(listener.notes)) == (5, 1)
    assert "1 pictures count as wrong for mine.onnx" in listener.notes[0]
    files.present_tested.write_bytes(whole[:4])
    asked.clear()
    run(session)
    assert (files.present_tested.read_bytes(), kept.pop(1)) == (whole, first)
    assert len(asked) == 2 - (wide >= 4)
    files.present_tested.write_bytes(whole + b"x")
    with pytest.raises(MobilenasError, match="has more than the 6 answers"):
        run(session)
