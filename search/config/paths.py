"""What a configuration names by its path, as it is recorded: so that it means the same from anywhere."""

from space.formats import read_spec_file
from space.paths import expanded, recordable
from space.reference import REFERENCES


def whole_path(path: str, what: str) -> str:
    """A path that means the same from anywhere, as text that can be recorded."""
    return str(recordable(expanded(path).absolute(), what))


def whole_weights(named: str) -> str:
    """Weights that are published under a name as they are, a file's path whole."""
    from trainer.pretrained.downloads import is_published_name

    return named if is_published_name(named) else whole_path(named, "weights")


def network_text(named: str) -> str:
    """A published network's name as it is, a spec file as its canonical JSON."""
    if named in REFERENCES or named.startswith("{"):
        return named
    return read_spec_file(recordable(expanded(named), "spec file")).to_json()
