"""A user's own callables."""

import sys
from pathlib import Path

import pytest

from search.evaluation.job import OwnEvaluation, ask_own
from search.plugins import Plugin
from space.errors import InvalidConfig, RunError
from space.reference import mobilenet_v3_small_32px


def write(folder: Path, name: str, text: str) -> None:
    """A module of the user's."""
    (folder / f"{name}.py").write_text(text)


def test_a_callable_is_imported_from_the_users_folder(tmp_path: Path) -> None:
    """The folder is appended to the import path, once, and never put first."""
    write(tmp_path, "mine_one", "def double(x):\n    return 2 * x\n")
    Plugin(name="math:sqrt", folder=None).load()
    before = list(sys.path)
    plugin = Plugin(name="mine_one:double", folder=str(tmp_path))
    assert plugin.load()(4) == plugin.load()(4) == 8
    assert sys.path == [*before, str(tmp_path)]


def test_a_library_is_not_shadowed(tmp_path: Path) -> None:
    """A file called like a module of the standard library does not take its place."""
    write(tmp_path, "fractions", "Fraction = 'mine'\n")
    sys.modules.pop("fractions", None)
    Plugin(name="math:sqrt", folder=str(tmp_path)).load()
    import fractions

    assert fractions.Fraction(1, 2) == 0.5


def test_folders_and_edits_are_told_apart(tmp_path: Path) -> None:
    """Modules of one name in two folders are two, and an edited one is read again: a coordinator lives for weeks."""
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "mine_twice", f"def f(x):\n    return {value}\n")

    def called(name: str) -> int:
        value: int = Plugin(name="mine_twice:f", folder=str(tmp_path / name)).load()(0)
        return value

    assert [called("one"), called("two"), called("one")] == [1, 2, 1]
    write(tmp_path / "one", "mine_twice", "def f(x):\n    return 30 + x\n")
    assert called("one") == 30
    assert str(tmp_path / "two") not in sys.path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere_at_all:f", "ModuleNotFoundError"),
        ("math:nothing", "AttributeError"),
        ("math:pi", "not callable, but float"),
        ("broken_mine:f", "ZeroDivisionError"),
        ("math", "write package.module:callable"),
        ("../x:f", "write package.module:callable"),
    ],
)
def test_what_cannot_be_imported_is_told(tmp_path: Path, name: str, reason: str) -> None:
    """The message names the callable and why."""
    write(tmp_path, "broken_mine", "1 / 0\n")
    with pytest.raises(InvalidConfig, match=reason):
        Plugin(name=name, folder=str(tmp_path)).load()


def test_content_changes_with_the_source(tmp_path: Path) -> None:
    """Another source is another content, so that old results are not taken for new ones."""
    (tmp_path / "one").mkdir()
    write(tmp_path / "one", "mine_content", "def f(x):\n    return 1\n")
    first = Plugin(name="mine_content:f", folder=str(tmp_path / "one")).content
    assert first == Plugin(name="mine_content:f", folder=str(tmp_path / "one")).content
    write(tmp_path / "one", "mine_content", "def f(x):\n    return 2\n")
    assert Plugin(name="mine_content:f", folder=str(tmp_path / "one")).content != first


def test_content_changes_with_what_the_source_imports(tmp_path: Path) -> None:
    """A helper beside it counts, directly or through another one; what it does not import does not."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from . import deep\n")
    (tmp_path / "parts" / "deep.py").write_text("value = 1\n")
    write(tmp_path, "helping", "import math\n\nfrom parts import deep\n\nshare = deep.value / math.e\n")
    write(tmp_path, "helped", "import helping\n\n\ndef top1(arch):\n    return helping.share\n")
    plugin = Plugin(name="helped:top1", folder=str(tmp_path))
    first = plugin.content
    write(tmp_path, "unrelated", "value = 2\n")
    assert plugin.content == first
    (tmp_path / "parts" / "deep.py").write_text("value = 3\n")
    assert plugin.content != first


def test_an_evaluator_must_give_a_share(tmp_path: Path) -> None:
    """Top-1 is a share; per cents, words and truth values are refused with the evaluator's name."""
    write(
        tmp_path,
        "mine_judge",
        "import torch\n\n\ndef half(a):\n    return 0.5\n\n\ndef per_cent(a):\n    return 93\n\n\n"
        "def word(a):\n    return '0.5'\n\n\ndef truth(a):\n    return True\n\n\n"
        "def scalar(a):\n    return torch.tensor(0.25)\n\n\ndef several(a):\n    return torch.zeros(2)\n",
    )

    def judged(name: str) -> float:
        plugin = Plugin(name=f"mine_judge:{name}", folder=str(tmp_path))
        return ask_own(
            OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)
        ).top1

    assert (judged("half"), judged("scalar")) == (0.5, 0.25)
    for name in ("per_cent", "word", "truth", "several"):
        with pytest.raises(RunError, match=f"mine_judge:{name} gave"):
            judged(name)


def test_an_evaluator_that_was_edited_is_refused(tmp_path: Path) -> None:
    """A worker that starts after an edit says so, instead of giving results under the name of the old source."""
    write(tmp_path, "mine_edited", "def half(a):\n    return 0.5\n")
    plugin = Plugin(name="mine_edited:half", folder=str(tmp_path))
    evaluation = OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content="mine_edited:half@0")
    with pytest.raises(RunError, match="was edited while the search ran"):
        ask_own(evaluation)


def test_what_others_import_from_below_the_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a virtual environment in it, or on the import path anyway, loses nothing when another follows."""
    (tmp_path / "libraries").mkdir()
    write(tmp_path / "libraries", "a_library", "value = 1\n")
    write(tmp_path, "mine_beside", "def one():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "libraries"))
    Plugin(name="mine_beside:one", folder=str(tmp_path)).load()
    import a_library  # type: ignore[import-not-found]

    (tmp_path / "other").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    for folder in (str(tmp_path / "other"), None):
        Plugin(name="math:sqrt", folder=folder).load()
        assert sys.modules["a_library"] is a_library
        assert "mine_beside" not in sys.modules
        assert str(tmp_path / "other") in sys.path
