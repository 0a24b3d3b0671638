"""The command line: quick help, and one clear line for every mistake, which leaves the record as it was."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sqlalchemy import create_engine, text

from search.record.store import Store
from tests.tiny import Result, tiny_run

Mobilenas = Callable[..., Result]


def picture(path: Path, value: int = 100) -> None:
    """A small JPEG of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 24, 3), value, dtype=np.uint8)).save(path)


def test_help_needs_no_torch() -> None:
    """`mobilenas --help` imports neither torch nor onnxruntime nor optuna nor SQLAlchemy."""
    script = (
        "import sys; sys.argv = ['mobilenas', '--help']\n"
        "from service.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'optuna', 'sqlalchemy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("search", "plan", "resume", "finish", "status", "trials", "export", "predict", "evaluate"):
        assert command in done.stdout


def test_config_show_is_the_default_file(mobilenas: Mobilenas) -> None:
    """`config show` prints the shipped defaults with their comments, as YAML that is itself a valid configuration."""
    shown = mobilenas("config", "show")
    assert shown.code == 0
    assert "# " in shown.out
    assert yaml.safe_load(shown.out)["target"] == {"relative": 0.8}


def test_config_show_merges_a_file(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """With a file the effective configuration is printed."""
    path = tmp_path / "run.yaml"
    path.write_text("blocks: {trials: 7}")
    assert yaml.safe_load(mobilenas("config", "show", "--config", path).out)["blocks"]["trials"] == 7


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An existing, empty record."""
    path = tmp_path / "record.db"
    Store.open(f"sqlite:///{path}").close()
    return path


def contents(database: Path) -> list[str]:
    """All that an SQLite record holds, as SQL."""
    import sqlite3

    connection = sqlite3.connect(database)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def refused(result: Result, *named: str) -> None:
    """Exit code 2, and one line that names what is wrong."""
    assert result.code == 2, result.out + result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert result.err.startswith("error: ")
    for words in named:
        assert words in result.err


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("blocks: {trails: 3}", "blocks.trails"),
        ("blocks: {trials: -3}", "blocks.trials"),
        ("blocks: {trials: ten}", "blocks.trials"),
        ("data: {source: imagenet}", "imagenet"),
        ("space: {preset: resnet, width: 0.5}", "resnet"),
        ("space: {width: 0.001}", "space.width"),
        ("data: {source: 'imagefolder:/no/such/folder', resolution: 32}", "/no/such/folder"),
    ],
)
def test_bad_configurations(mobilenas: Mobilenas, database: Path, tmp_path: Path, config: str, named: str) -> None:
    """A wrong configuration is refused before anything is measured, and the record stays as it was."""
    before = contents(database)
    path = tmp_path / "run.yaml"
    path.write_text(config)
    runs = tmp_path / "runs"
    refused(mobilenas("search", "--config", path, "--database", f"sqlite:///{database}", "--runs", runs), named)
    assert contents(database) == before
    assert not runs.exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--budget", "soon"), "soon"),
        (("--target", "fast"), "fast"),
        (("--target", "0ms"), "0ms"),
        (("--name", "a/b"), "name"),
        (("--seed", "-1"), "seed"),
        (("--workers", "0"), "workers"),
        (("--config", "/no/such/file.yaml"), "/no/such/file.yaml"),
    ],
)
def test_bad_options(mobilenas: Mobilenas, database: Path, arguments: tuple[str, ...], named: str) -> None:
    """A wrong option is refused likewise."""
    before = contents(database)
    refused(mobilenas("search", *arguments, "--database", f"sqlite:///{database}"), named)
    assert contents(database) == before


def test_wrong_usage_is_one_line(mobilenas: Mobilenas) -> None:
    """What the command line does not know is named in one line; a command without its subcommand shows its help."""
    for arguments, named in (
        (("search", "--bogus"), "No such option: --bogus"),
        (("nothing",), "No such command 'nothing'"),
        (("search", "--seed", "x"), "--seed"),
        (("status",), "Missing argument"),
    ):
        refused(mobilenas(*arguments), named)
    helped = mobilenas("db")
    assert "upgrade" in helped.out
    assert (helped.code, helped.err) == (2, "")


def test_bad_photos(mobilenas: Mobilenas, database: Path, tmp_path: Path) -> None:
    """No pictures, one class alone, an unreadable picture: each is named."""
    folder = tmp_path / "photos"
    folder.mkdir()
    search = ("search", "--data", f"imagefolder:{folder}", "--database", f"sqlite:///{database}")
    refused(mobilenas(*search, "--resolution", "32"), "photos")
    for number in range(10):
        picture(folder / "cat" / f"{number}.jpg", number)
    refused(mobilenas(*search, "--resolution", "32"), "class")
    for number in range(10):
        picture(folder / "dog" / f"{number}.jpg", 200 + number)
    (folder / "dog" / "broken.jpg").write_bytes(b"this is no picture")
    refused(mobilenas(*search, "--resolution", "32"), "broken.jpg")


def test_unknown_names(mobilenas: Mobilenas, database: Path) -> None:
    """A search that nobody recorded is named in every command that takes one."""
    url = f"sqlite:///{database}"
    for command in ("resume", "finish", "status", "export"):
        refused(mobilenas(command, "nobody", "--database", url), "nobody")
    refused(mobilenas("trials", "--search", "nobody", "--database", url), "nobody")
    refused(mobilenas("trials", "--sort", "beauty", "--database", url), "beauty", "reward")


def test_newer_database(mobilenas: Mobilenas, database: Path) -> None:
    """A database of a newer schema is refused and left byte for byte as it was."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(text("update mobilenas_alembic_version set version_num = '9999_future'"))
    engine.dispose()
    before = database.read_bytes()
    refused(mobilenas("searches", "--database", f"sqlite:///{database}"), "newer", "9999_future")
    assert database.read_bytes() == before


def test_database_that_is_none(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """A text file, a nonsense URL and a missing driver are each refused by name."""
    path = tmp_path / "notes.db"
    path.write_text("shopping: milk, bread, " * 100)
    refused(mobilenas("searches", "--database", f"sqlite:///{path}"), "notes.db")
    assert path.read_text().startswith("shopping")
    refused(mobilenas("searches", "--database", "no url at all"))
    refused(mobilenas("searches", "--database", "mysql://u:secret@h/d"), "mysql")
    assert "secret" not in mobilenas("searches", "--database", "mysql://u:secret@h/d").err


def test_system_errors_are_one_line_too(mobilenas: Mobilenas, database: Path, tmp_path: Path) -> None:
    """A path that leads through a file is named instead of shown as a traceback."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused(mobilenas("predict", blocked / "run", tmp_path / "shot.jpg"), "file")
    assert contents(database)


def test_bad_runs(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """Predict and evaluate refuse a missing run, a file that is no model, and a picture that is none."""
    shot = tmp_path / "shot.jpg"
    picture(shot)
    refused(mobilenas("predict", tmp_path / "nowhere", shot), "nowhere")
    fake = tmp_path / "fake.onnx"
    fake.write_bytes(b"\x08\x08 no model")
    refused(mobilenas("predict", fake, shot), "fake.onnx")
    refused(mobilenas("evaluate", fake, "--data", "fashion-mnist"), "fake.onnx")


@pytest.mark.slow
@pytest.mark.usefixtures("any_table_will_do")
def test_infeasible_target(mobilenas: Mobilenas, tmp_path: Path, tiny_config: Path) -> None:
    """A target that no network can meet is refused with the feasible range; the table stays for the next try."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    search = ("search", "--config", tiny_config, "--runs", tmp_path / "runs", "--database", url)
    refused(mobilenas(*search, "--target", "0.000001ms"), "out of reach", " to ", "reference")
    assert not (tmp_path / "runs").exists()
    assert mobilenas("searches", "--database", url).out.strip() == "no searches"
    again = mobilenas("plan", "--config", tiny_config, "--target", "0.000001ms", "--database", url)
    refused(again, "out of reach")
    planned = mobilenas("plan", "--config", tiny_config, "--database", url)
    assert planned.code == 0
    assert "0 to measure" in planned.out
    assert "expected" in planned.out
    assert "on 1 worker(s)" in planned.out
    assert f"mobilenas search --config {tiny_config} --database {url}" in " ".join(planned.out.split())
    with tiny_config.open("a", encoding="utf-8") as config:
        config.write("executor: ray\nray: {address: 'head:6379', max_concurrent_trials: 7}\n")
    planned = mobilenas("plan", "--config", tiny_config, "--database", url)
    assert "on the Ray cluster head:6379, at most 7 at once" in planned.out
    assert "assuming 1 such threads" in " ".join(planned.out.split())


@pytest.mark.slow
def test_photos_end_to_end(mobilenas: Mobilenas, tmp_path: Path) -> None:
    """A person's own photos of odd sizes go through a whole search, and the network names a new one."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("green", 1)):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)), 3)
            pixels = rng.integers(0, 80, size, dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    config = yaml.safe_load(tiny_run(tmp_path).read_text())
    config["data"] = {"source": f"imagefolder:{folder}", "resolution": 48, "reward_images": 10}
    config["blocks"] = {"trials": 2, "train_images": 50, "epochs": 4.0}
    config["netadapt"] = {"max_steps": 0}  # where a walk ends is up to measurements, and with it who is trained
    config["final"] = {"images": 640}
    path = tmp_path / "photos.yaml"
    path.write_text(yaml.safe_dump(config))
    url = f"sqlite:///{tmp_path / 'record.db'}"
    done = mobilenas("search", "--config", path, "--runs", tmp_path / "runs", "--database", url)
    assert done.code == 0, done.err
    assert "decoding 80 pictures" in done.out
    from_scratch = "all networks are trained from scratch; to begin with published weights instead"
    assert from_scratch in " ".join(done.out.split())
    run = tmp_path / "runs" / "photos-local-1"
    shot = tmp_path / "shot.png"
    Image.fromarray(np.full((70, 50, 3), (200, 30, 30), dtype=np.uint8)).save(shot)
    assert "shot.png: red" in mobilenas("predict", run, shot).out
    other = mobilenas("evaluate", run, "--data", "fashion-mnist")
    refused(other, "classes")
    shutil.rmtree(folder)  # labels and preprocessing are in the record
    exported = mobilenas("export", "photos-local-1", "--out", tmp_path / "out", "--database", url)
    assert exported.code == 0, exported.err
    for name in ("labels.txt", "preprocess.json", "weights.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (run / name).read_bytes()
