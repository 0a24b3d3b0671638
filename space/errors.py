"""The error tree: everything that mobilenas raises on purpose, each message naming the value and the remedy."""


class MobilenasError(Exception):
    """Base of all errors a user can cause and mend; the command line prints it as one line and exits with 2."""


class InvalidArchitecture(MobilenasError, ValueError):
    """An architecture (or its spec file) breaks a rule of the format."""


class InvalidSpace(MobilenasError, ValueError):
    """A search space (or its YAML file) breaks a rule of the format."""


class InvalidConfig(MobilenasError, ValueError):
    """A run configuration has an unknown key, a wrong type or an impossible value."""


class InvalidTable(MobilenasError, ValueError):
    """A latency table, or the file it was read from, cannot be used."""


class MissingBlock(MobilenasError, KeyError):
    """A block is not in the latency table; it is measured or refused, never interpolated."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; ours is a sentence for people.
        return str(self.args[0])


class DeviceError(MobilenasError):
    """A device cannot be reached or cannot measure what was asked for."""


class InvalidResults(MobilenasError, ValueError):
    """Results of a kit are damaged, incomplete, or not those of a kit that this version makes."""


class InfeasibleTarget(MobilenasError, ValueError):
    """No architecture of the search space can meet the latency target."""


class DataError(MobilenasError):
    """A data set is missing, unreadable or unfit for training."""


class Diverged(DataError):
    """A training's loss or weights became infinite or not a number; another attempt would end alike."""


class StoreError(MobilenasError):
    """The database cannot be used, or does not hold what was asked for."""


class RunError(MobilenasError):
    """A search, trial or exported run is not in the state that the command needs."""


class Stopped(RunError):
    """Something was stopped on purpose; what was done is kept, and it can go on."""


class TimeLimit(RunError):
    """Something took longer than it was allowed to, all its attempts together."""


class NotExpressible(MobilenasError, ValueError):
    """A format of another project has no words for some part of an architecture."""
