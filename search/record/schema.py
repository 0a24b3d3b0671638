"""The tables of the record, for SQLite and PostgreSQL; the views beside them are in `search.record.views`.

A change here needs a new file in migrations/versions and its name at the end of `REVISIONS`; released migrations are
never edited.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012")
# Those since when the tables of an archive are the current ones; archives of all of them can be read.
SAME_TABLES = REVISIONS[2:]

# Optuna keeps its own Alembic state in `alembic_version`; a name of ours lets both live in one database.
VERSION_TABLE = "mobilenas_alembic_version"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, time zone aware and in UTC on both sides; SQLite itself keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - inherited
        """To UTC; a naive time is our mistake."""
        if value is None:
            return None
        assert value.tzinfo is not None, f"{value} has no time zone"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - inherited
        """From the database, in UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

devices = Table(
    "devices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, comment="the user's own name for the device"),
    Column("fingerprint", Text, nullable=False, comment="hash of all facts below; latencies compare only where equal"),
    Column("processor", Text, nullable=False, comment="model name"),
    Column("machine", Text, nullable=False, comment="instruction set, such as x86_64"),
    Column("system", Text, nullable=False, comment="operating system"),
    Column("cores", Integer, nullable=False, comment="logical cores"),
    Column("provider", Text, nullable=False, comment="ONNX Runtime execution provider"),
    Column("threads", Integer, nullable=False, comment="ONNX Runtime intra-op threads"),
    Column("precision", Text, nullable=False, comment="number format of weights and activations"),
    Column("graph_optimization", Text, nullable=False, comment="ONNX Runtime graph optimisation level"),
    Column("runtime_version", Text, nullable=False, comment="ONNX Runtime version"),
    UniqueConstraint("name", "fingerprint"),
)

device_settings = Table(
    "device_settings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True, comment="the user's own name for the device"),
    Column("address", Text, nullable=False, comment="local, kit, or ssh://user@host:port"),
    Column("python", Text, nullable=False, comment="the Python to call there"),
    Column("cpus", Text, comment="cores to keep to, such as 4-7; NULL: all"),
    Column("provider", Text, nullable=False, comment="ONNX Runtime execution provider"),
    Column("threads", Integer, nullable=False, comment="ONNX Runtime intra-op threads"),
    Column("graph_optimization", Text, nullable=False, comment="ONNX Runtime graph optimisation level"),
    Column("created_at", UtcDateTime, nullable=False, comment="UTC"),
)

latency_tables = Table(
    "latency_tables",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device_id", ForeignKey("devices.id"), nullable=False, index=True),
    Column("scope", Text, nullable=False, comment="content hash of the search space that the table was collected for"),
    Column("calibration", JSON(none_as_null=True), comment="linear model from blocks to networks; NULL: the plain sum"),
    Column("conditions", JSON, nullable=False, comment="what else bore on it: load, governor, frequency, temperature"),
    Column("protocol", Text, nullable=False, comment="how it was measured"),
    Column("created_at", UtcDateTime, nullable=False, comment="UTC"),
    Column("finished_at", UtcDateTime, comment="UTC; NULL: not complete, never used. The newest finished one is used"),
)

latency_entries = Table(
    "latency_entries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("table_id", ForeignKey("latency_tables.id"), nullable=False),
    Column("key", Text, nullable=False, comment="the block and its input size, readable"),
    Column("samples", JSON, nullable=False, comment="raw samples in ms: cold_wall, cold_cpu, warm_wall, warm_cpu"),
    Column("cold_wall_ms", Double, nullable=False, comment="10 % quantile, first run after other blocks, wall clock"),
    Column("cold_cpu_ms", Double, nullable=False, comment="10 % quantile, first run after other blocks, thread CPU"),
    Column("warm_wall_ms", Double, nullable=False, comment="10 % quantile, repeated runs, wall clock"),
    Column("warm_cpu_ms", Double, nullable=False, comment="10 % quantile, repeated runs, thread CPU clock"),
    Column("reason", Text, nullable=False, comment="who asked for it: space, reference, netadapt or enqueued"),
    Column("measured_at", UtcDateTime, nullable=False, comment="UTC, when it was recorded"),
    Column("low_ms", Double, comment="lower end of warm_cpu_ms's 95 % interval; NULL: recorded before it was kept"),
    Column("high_ms", Double, comment="upper end of warm_cpu_ms's 95 % interval; NULL: likewise"),
    Column("spread", Double, comment="median of the warm CPU samples above warm_cpu_ms, relative; NULL: likewise"),
    UniqueConstraint("table_id", "key"),
)

validations = Table(
    "validations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("table_id", ForeignKey("latency_tables.id"), nullable=False, index=True, comment="the table that predicted"),
    Column("under_load", Boolean, nullable=False, comment="whether a busy process per core ran beside it"),
    Column("drift_wall", Double, nullable=False, comment="wall time of known blocks then, divided by the table's"),
    Column("drift_cpu", Double, nullable=False, comment="thread CPU time of known blocks then, divided by the table's"),
    Column("conditions", JSON, nullable=False, comment="what else bore on it: load, governor, frequency, temperature"),
    Column("measured_at", UtcDateTime, nullable=False, comment="UTC, when it was recorded"),
)

validated_networks = Table(
    "validated_networks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("validation_id", ForeignKey("validations.id"), nullable=False, index=True),
    Column("network_group", Text, nullable=False, comment="random, near_target or netadapt"),
    Column("arch_id", Text, nullable=False, comment="content hash of the architecture"),
    Column("architecture", Text, nullable=False, comment="canonical JSON of the spec"),
    Column("madds", BigInteger, nullable=False, comment="multiply-adds of one image"),
    Column("predicted_ms", Double, nullable=False, comment="wall time by the table, ms"),
    Column("measured_ms", Double, nullable=False, comment="the whole network: low quantile of wall time, ms"),
    Column("predicted_cpu_ms", Double, nullable=False, comment="thread CPU time by the table, ms"),
    Column("measured_cpu_ms", Double, nullable=False, comment="the whole network: low quantile of thread CPU time, ms"),
)

signal_qualities = Table(
    "signal_qualities",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("data_hash", Text, nullable=False, index=True, comment="content hash of the data set"),
    Column("scope", Text, nullable=False, comment="content hash of the search space"),
    Column("recipes", Text, nullable=False, comment="hash of how networks are trained, in a race and in the end"),
    Column("source", Text, nullable=False, comment="the searches whose networks were compared"),
    Column("compared", Text, nullable=False, comment="which of them: space (all), or near the limit"),
    Column("signal", Text, nullable=False, comment="what orders networks: a short training, multiply-adds, depth, ..."),
    Column("images", BigInteger, comment="images that the short training has seen; NULL: nothing is trained"),
    Column("networks", Integer, nullable=False, comment="how many were compared"),
    Column("trainings", Integer, nullable=False, comment="how often each was trained to the end"),
    Column("tau", Double, comment="Kendall's tau-b with the top-1 at the end; NULL: the signal orders nothing"),
    Column("tau_low", Double, comment="lower end of its 95 % interval, over networks; NULL: likewise"),
    Column("tau_high", Double, comment="upper end; NULL: likewise"),
    Column("regrets", JSON, nullable=False, comment="points of top-1 lost, by how many of its best are trained on"),
    Column("seconds", Double, comment="of one core for each network; NULL: not known"),
    Column("measured_at", UtcDateTime, nullable=False, comment="UTC"),
)

searches = Table(
    "searches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True, comment="the user's name for the search"),
    Column("config", JSON, nullable=False, comment="effective configuration, defaults filled in"),
    Column("stage", Text, nullable=False, comment="queued, blocks, netadapt, final, awaiting-certification or done"),
    Column("finish_requested", Boolean, nullable=False, comment="the user asked to end with the best found so far"),
    Column("error", Text, comment="why the search stopped, if it did; one line"),
    Column("run_folder", Text, comment="folder of weights and exports; NULL while queued"),
    Column("data", Text, nullable=False, comment="data set: fashion-mnist, cifar10 or imagefolder:PATH"),
    Column("data_hash", Text, comment="content hash of the data set; NULL while queued"),
    Column("device_id", ForeignKey("devices.id"), comment="the device of the latency table; NULL while queued"),
    Column("table_id", ForeignKey("latency_tables.id"), comment="the latency table of all predictions; NULL: queued"),
    Column("target_ms", Double, comment="latency that the final network must meet, ms; NULL while queued"),
    Column("seed_target_ms", Double, comment="latency that the block-level search aims at, ms; NULL while queued"),
    Column("fastest_ms", Double, comment="predicted latency of the space's fastest network, ms; NULL while queued"),
    Column("slowest_ms", Double, comment="predicted latency of the space's slowest network, ms; NULL while queued"),
    Column("reference_ms", Double, comment="predicted latency of the reference network, ms; NULL while queued"),
    Column("owner", Text, comment="who started it; NULL: recorded before there were owners"),
    Column("note", Text, comment="free text of the owner"),
    Column("budget", Text, comment="quick, default, thorough or a time, as asked for; NULL: not recorded"),
    Column("queued_at", UtcDateTime, comment="UTC, when it was put into the queue; NULL: runs in the foreground"),
    Column("stop_requested", Boolean, nullable=False, comment="the user asked to stop; a coordinator leaves it alone"),
    Column("claimed_by", Text, comment="the process that runs it: host, kernel, process and a random part; NULL: none"),
    Column("heartbeat_at", UtcDateTime, comment="UTC by the database's clock, last sign of life of that process"),
    Column("claims", Integer, nullable=False, comment="how often it was claimed since a trial was last completed"),
    Column("created_at", UtcDateTime, nullable=False, comment="UTC"),
    Column("updated_at", UtcDateTime, nullable=False, comment="UTC, last change of the search or one of its trials"),
    Column("finished_at", UtcDateTime, comment="UTC, when the stage became done"),
    Column("group_name", Text, comment="searches that belong together: replicates, or one per device"),
    Column(
        "data_facts",
        JSON(none_as_null=True),
        comment="classes, preprocessing, images per class and split, labels of the test split, what was left out; "
        "NULL: no data, or recorded before 0008",
    ),
    Column(
        "priority",
        Integer,
        nullable=False,
        server_default="0",
        comment="of those that wait in the queue, the highest goes first",
    ),
)

search_targets = Table(
    "search_targets",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("table_id", ForeignKey("latency_tables.id"), primary_key=True, comment="the latency table of this device"),
    Column("target_ms", Double, nullable=False, comment="latency that the final network must meet there, ms"),
    Column("reference_ms", Double, nullable=False, comment="predicted latency of the reference there, ms"),
)

search_labels = Table(
    "search_labels",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("label", Text, primary_key=True, comment="a word by which searches are grouped, such as a project"),
)

log_lines = Table(
    "log_lines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), nullable=False, index=True),
    Column("trial", Integer, comment="number of the trial it is about; NULL: about the search"),
    Column("at", UtcDateTime, nullable=False, comment="UTC, by the clock of the process that runs the search"),
    Column("level", Text, nullable=False, comment="debug, info, warning or error"),
    Column("event", Text, nullable=False, comment="begin, progress, end, note, trial or step"),
    Column("message", Text, nullable=False, comment="the line for people"),
)

trials = Table(
    "trials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), nullable=False),
    Column("number", Integer, nullable=False, comment="counts from 0 within the search"),
    Column("stage", Text, nullable=False, comment="blocks, netadapt or final"),
    Column(
        "state",
        Text,
        nullable=False,
        comment="running, complete, stopped (early, as others did better), pruned (refused untrained: over a limit, or "
        "tried already) or failed",
    ),
    Column(
        "origin",
        Text,
        nullable=False,
        comment="who proposed it: a sampler, reference, enqueued, adopted (from another search), or what NetAdapt "
        "narrowed",
    ),
    Column("arch_id", Text, nullable=False, comment="content hash of the architecture"),
    Column("architecture", Text, nullable=False, comment="the spec as canonical JSON"),
    Column("top1", Double, comment="accuracy on the reward split, 0-1; NULL: not trained"),
    Column(
        "latency_ms",
        Double,
        nullable=False,
        comment="predicted by the latency table: batch 1, wall time, ms; for one network on several devices the "
        "slowest one's, as a share of its target, in ms of the first",
    ),
    Column("madds", BigInteger, nullable=False, comment="multiply-adds of one image"),
    Column("params_count", BigInteger, nullable=False, comment="trainable parameters"),
    Column("reward", Double, comment="derived from the scores by the search's reward; NULL: none"),
    Column("seed", BigInteger, nullable=False, comment="seed of the evaluation"),
    Column("attempt", Integer, nullable=False, comment="counts from 1; a trial lost with its coordinator starts anew"),
    Column("parent", Integer, comment="number of the trial whose weights were inherited"),
    Column("iteration", Integer, comment="NetAdapt iteration"),
    Column("params", JSON(none_as_null=True), comment="what the sampler chose, by parameter name"),
    Column("evaluation_key", Text, index=True, comment="hash of all that top1 depends on; equal keys, equal results"),
    Column("images_seen", BigInteger, nullable=False, comment="training images, counted each time they were seen"),
    Column("weights", Text, comment="file name inside the run folder"),
    Column("reused_from", ForeignKey("trials.id"), comment="id of the trial whose evaluation was taken over"),
    Column("correct", Integer, comment="test images classified correctly; final trials only"),
    Column("total", Integer, comment="test images; final trials only"),
    Column("error", Text, comment="why the trial failed, one line"),
    Column("started_at", UtcDateTime, nullable=False, comment="UTC, of the current attempt"),
    Column("finished_at", UtcDateTime, comment="UTC"),
    Column("duration_s", Double, comment="seconds from start to finish of the last attempt"),
    Column("peak_bytes", BigInteger, comment="largest working set of activations; NULL: recorded before it was kept"),
    Column("sampler_attrs", JSON(none_as_null=True), comment="what the sampler noted of its proposal; NULL: nothing"),
    Column(
        "log_likelihood",
        Double,
        comment="mean natural logarithm of the right class's probability, on the images of top1; NULL: none, or "
        "recorded before 0009",
    ),
    Column(
        "probability",
        Double,
        comment="mean probability of the right class, 0-1, on the images of top1; NULL: none, or recorded before 0009",
    ),
    UniqueConstraint("search_id", "number"),
    ForeignKeyConstraint(["search_id", "parent"], ["trials.search_id", "trials.number"]),
)

trial_latencies = Table(
    "trial_latencies",
    metadata,
    Column("search_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True, comment="of the trial"),
    Column("table_id", ForeignKey("latency_tables.id"), primary_key=True, comment="the latency table of this device"),
    Column("latency_ms", Double, nullable=False, comment="predicted there: batch 1, wall time, ms"),
    ForeignKeyConstraint(["search_id", "number"], ["trials.search_id", "trials.number"]),
)

netadapt_steps = Table(
    "netadapt_steps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), nullable=False),
    Column("iteration", Integer, nullable=False, comment="of the NetAdapt walk"),
    Column("trial", Integer, nullable=False, comment="number of the accepted trial"),
    Column("parent", Integer, nullable=False, comment="number of the trial that was narrowed"),
    Column("narrowed", Text, nullable=False, comment="what became narrower"),
    Column("latency_before_ms", Double, nullable=False, comment="predicted, ms"),
    Column("latency_after_ms", Double, nullable=False, comment="predicted, ms"),
    Column("top1_before", Double, nullable=False, comment="0-1, reward split"),
    Column("top1_after", Double, nullable=False, comment="0-1, reward split"),
    Column("proposals", Integer, nullable=False, comment="how many proposals were compared"),
    UniqueConstraint("search_id", "iteration"),
    ForeignKeyConstraint(["search_id", "trial"], ["trials.search_id", "trials.number"]),
    ForeignKeyConstraint(["search_id", "parent"], ["trials.search_id", "trials.number"]),
)


def _measured() -> tuple[Column[Any], ...]:
    """Of a network that was measured whole."""
    return (
        Column(
            "measured_ms", Double, nullable=False, comment="the whole network: low quantile of wall time, batch 1, ms"
        ),
        Column("low_ms", Double, nullable=False, comment="lower end of the 95 % confidence interval, ms"),
        Column("high_ms", Double, nullable=False, comment="upper end of the 95 % confidence interval, ms"),
        Column("median_ms", Double, nullable=False, comment="median of the samples, ms"),
        Column("sample_count", Integer, nullable=False, comment="how many samples the estimate rests on"),
        Column("samples", JSON, nullable=False, comment="raw samples in ms, in order of time"),
        Column("measured_at", UtcDateTime, nullable=False, comment="UTC, when it was recorded"),
    )


network_measurements = Table(
    "network_measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), nullable=False),
    Column("table_id", ForeignKey("latency_tables.id"), nullable=False, comment="the table that predicted"),
    Column("trial", Integer, nullable=False, comment="number of the measured trial"),
    Column("predicted_ms", Double, nullable=False, comment="by the table, ms"),
    *_measured(),
    ForeignKeyConstraint(["search_id", "trial"], ["trials.search_id", "trials.number"]),
    Index(None, "search_id", "trial"),
)

present_models = Table(
    "present_models",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("name", Text, nullable=False, comment="of the ONNX file that the user has at present"),
    Column("sha256", Text, nullable=False, comment="of that file, in hexadecimal"),
    Column("correct", Integer, nullable=False, comment="images of the test split that it classifies right"),
    Column("total", Integer, nullable=False, comment="images of the test split"),
)

present_measurements = Table(
    "present_measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), nullable=False, index=True),
    Column("table_id", ForeignKey("latency_tables.id"), nullable=False, comment="the latency table of this device"),
    *_measured(),
)

exports = Table(
    "exports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), nullable=False, index=True),
    Column("trial_id", ForeignKey("trials.id"), nullable=False, comment="the exported trial"),
    Column("folder", Text, nullable=False, comment="where the files were written"),
    Column("files", JSON, nullable=False, comment="SHA-256 in hexadecimal, by file name"),
    Column("created_at", UtcDateTime, nullable=False, comment="UTC"),
)
