"""The first schema: devices, latency tables, searches, trials, and three views for people who read with SQL.

Going back is restoring a backup, so there is no downgrade.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# One flat row per trial.
TRIAL_SUMMARY = """
CREATE VIEW trial_summary AS
SELECT searches.name AS search, trials.number, trials.stage, trials.state, trials.origin, trials.arch_id,
       trials.top1, trials.latency_ms, trials.madds, trials.params_count, trials.reward, searches.target_ms,
       trials.duration_s, trials.images_seen, trials.parent, trials.iteration, trials.error,
       trials.started_at, trials.finished_at
FROM trials
JOIN searches ON searches.id = trials.search_id
"""

# Complete trials that no other of the same search and stage beats in one of top1 and latency without losing in the
# other. Stages are kept apart: their networks were trained differently. A trial is on the front where nothing at
# most as slow is more accurate, and nothing equally accurate is faster. The first window's default frame ends with
# the last row of equal latency.
PARETO_FRONT = """
CREATE VIEW pareto_front AS
SELECT search, stage, number, arch_id, top1, latency_ms, madds, params_count, reward
FROM (
    SELECT trial_summary.*,
           MAX(top1) OVER (PARTITION BY search, stage ORDER BY latency_ms) AS highest_top1,
           MIN(latency_ms) OVER (PARTITION BY search, stage, top1) AS lowest_latency_ms
    FROM trial_summary
    WHERE state = 'complete' AND stage IN ('blocks', 'netadapt') AND top1 IS NOT NULL
) AS candidates
WHERE top1 = highest_top1 AND latency_ms = lowest_latency_ms
"""

# Per search the complete trial of the block-level search with the highest reward; of equal ones the first.
BEST_TRIAL = """
CREATE VIEW best_trial AS
SELECT search, number, arch_id, top1, latency_ms, madds, params_count, reward, target_ms
FROM (
    SELECT trial_summary.*, ROW_NUMBER() OVER (PARTITION BY search ORDER BY reward DESC, number) AS place
    FROM trial_summary
    WHERE state = 'complete' AND stage = 'blocks' AND reward IS NOT NULL
) AS candidates
WHERE place = 1
"""


def upgrade() -> None:
    """Create the tables, then the views on them."""
    _create_tables()
    for view in (TRIAL_SUMMARY, PARETO_FRONT, BEST_TRIAL):
        op.execute(view)


def _create_tables() -> None:
    op.create_table(
        "devices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="the user's own name for the device"),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=False,
            comment="hash of all facts below; latencies compare only where equal",
        ),
        sa.Column("processor", sa.Text(), nullable=False, comment="model name"),
        sa.Column("machine", sa.Text(), nullable=False, comment="instruction set, such as x86_64"),
        sa.Column("system", sa.Text(), nullable=False, comment="operating system"),
        sa.Column("cores", sa.Integer(), nullable=False, comment="logical cores"),
        sa.Column("provider", sa.Text(), nullable=False, comment="ONNX Runtime execution provider"),
        sa.Column("threads", sa.Integer(), nullable=False, comment="ONNX Runtime intra-op threads"),
        sa.Column("precision", sa.Text(), nullable=False, comment="number format of weights and activations"),
        sa.Column("graph_optimization", sa.Text(), nullable=False, comment="ONNX Runtime graph optimisation level"),
        sa.Column("runtime_version", sa.Text(), nullable=False, comment="ONNX Runtime version"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("name", "fingerprint", name=op.f("uq_devices_name_fingerprint")),
    )
    op.create_table(
        "latency_tables",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column(
            "scope",
            sa.Text(),
            nullable=False,
            comment="content hash of the search space that the table was collected for",
        ),
        sa.Column(
            "calibration",
            sa.JSON(none_as_null=True),
            comment="linear model from blocks to networks; NULL: the plain sum",
        ),
        sa.Column(
            "conditions",
            sa.JSON(),
            nullable=False,
            comment="what else bore on it: load, governor, frequency, temperature",
        ),
        sa.Column("protocol", sa.Text(), nullable=False, comment="how it was measured"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            comment="UTC; NULL: not complete, never used. The newest finished one is used",
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_latency_tables_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_latency_tables")),
    )
    op.create_index(op.f("ix_latency_tables_device_id"), "latency_tables", ["device_id"], unique=False)
    op.create_table(
        "latency_entries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("table_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="the block and its input size, readable"),
        sa.Column(
            "samples", sa.JSON(), nullable=False, comment="raw samples in ms: cold_wall, cold_cpu, warm_wall, warm_cpu"
        ),
        sa.Column(
            "cold_wall_ms",
            sa.Double(),
            nullable=False,
            comment="10 % quantile, first run after other blocks, wall clock",
        ),
        sa.Column(
            "cold_cpu_ms",
            sa.Double(),
            nullable=False,
            comment="10 % quantile, first run after other blocks, thread CPU",
        ),
        sa.Column("warm_wall_ms", sa.Double(), nullable=False, comment="10 % quantile, repeated runs, wall clock"),
        sa.Column("warm_cpu_ms", sa.Double(), nullable=False, comment="10 % quantile, repeated runs, thread CPU clock"),
        sa.Column("reason", sa.Text(), nullable=False, comment="who asked for it: space, reference or netadapt"),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False, comment="UTC, when it was recorded"),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name=op.f("fk_latency_entries_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_latency_entries")),
        sa.UniqueConstraint("table_id", "key", name=op.f("uq_latency_entries_table_id_key")),
    )
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="the user's name for the search"),
        sa.Column("config", sa.JSON(), nullable=False, comment="effective configuration, defaults filled in"),
        sa.Column("stage", sa.Text(), nullable=False, comment="blocks, netadapt, final or done"),
        sa.Column(
            "finish_requested", sa.Boolean(), nullable=False, comment="the user asked to end with the best found so far"
        ),
        sa.Column("error", sa.Text(), comment="why the search stopped, if it did; one line"),
        sa.Column("run_folder", sa.Text(), nullable=False, comment="folder of weights and exports"),
        sa.Column("data_hash", sa.Text(), nullable=False, comment="content hash of the data set"),
        sa.Column("device_id", sa.Integer(), comment="the device of the latency table"),
        sa.Column("table_id", sa.Integer(), comment="the latency table that predictions come from"),
        sa.Column("target_ms", sa.Double(), nullable=False, comment="latency that the final network must meet, ms"),
        sa.Column(
            "seed_target_ms", sa.Double(), nullable=False, comment="latency that the block-level search aims at, ms"
        ),
        sa.Column(
            "fastest_ms",
            sa.Double(),
            nullable=False,
            comment="predicted latency of the fastest network of the space, ms",
        ),
        sa.Column(
            "slowest_ms",
            sa.Double(),
            nullable=False,
            comment="predicted latency of the slowest network of the space, ms",
        ),
        sa.Column(
            "reference_ms", sa.Double(), nullable=False, comment="predicted latency of the reference network, ms"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="UTC, last change of the search or one of its trials",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), comment="UTC, when the stage became done"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_searches_device_id")),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name=op.f("fk_searches_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
        sa.UniqueConstraint("name", name=op.f("uq_searches_name")),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="counts from 0 within the search"),
        sa.Column("stage", sa.Text(), nullable=False, comment="blocks, netadapt or final"),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="running, complete, pruned (over budget, not trained) or failed"
        ),
        sa.Column(
            "origin",
            sa.Text(),
            nullable=False,
            comment="who proposed it: a sampler, reference, or what NetAdapt narrowed",
        ),
        sa.Column("arch_id", sa.Text(), nullable=False, comment="content hash of the architecture"),
        sa.Column("architecture", sa.Text(), nullable=False, comment="the spec as canonical JSON"),
        sa.Column("top1", sa.Double(), comment="accuracy on the reward split, 0-1; NULL: not trained"),
        sa.Column(
            "latency_ms", sa.Double(), nullable=False, comment="predicted by the latency table: batch 1, wall time, ms"
        ),
        sa.Column("madds", sa.BigInteger(), nullable=False, comment="multiply-adds of one image"),
        sa.Column("params_count", sa.BigInteger(), nullable=False, comment="trainable parameters"),
        sa.Column("reward", sa.Double(), comment="derived from the scores by the search's reward; NULL: none"),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="seed of the evaluation"),
        sa.Column(
            "attempt",
            sa.Integer(),
            nullable=False,
            comment="counts from 1; a trial lost with its coordinator starts anew",
        ),
        sa.Column("parent", sa.Integer(), comment="number of the trial whose weights were inherited"),
        sa.Column("iteration", sa.Integer(), comment="NetAdapt iteration"),
        sa.Column("params", sa.JSON(none_as_null=True), comment="what the sampler chose, by parameter name"),
        sa.Column("evaluation_key", sa.Text(), comment="hash of all that top1 depends on; equal keys, equal results"),
        sa.Column(
            "images_seen", sa.BigInteger(), nullable=False, comment="training images, counted each time they were seen"
        ),
        sa.Column("weights", sa.Text(), comment="file name inside the run folder"),
        sa.Column("reused_from", sa.Integer(), comment="id of the trial whose evaluation was taken over"),
        sa.Column("correct", sa.Integer(), comment="test images classified correctly; final trials only"),
        sa.Column("total", sa.Integer(), comment="test images; final trials only"),
        sa.Column("error", sa.Text(), comment="why the trial failed, one line"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="UTC, of the current attempt"),
        sa.Column("finished_at", sa.DateTime(timezone=True), comment="UTC"),
        sa.Column("duration_s", sa.Double(), comment="seconds from start to finish of the last attempt"),
        sa.ForeignKeyConstraint(["reused_from"], ["trials.id"], name=op.f("fk_trials_reused_from")),
        sa.ForeignKeyConstraint(
            ["search_id", "parent"], ["trials.search_id", "trials.number"], name=op.f("fk_trials_search_id_parent")
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_trials_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.UniqueConstraint("search_id", "number", name=op.f("uq_trials_search_id_number")),
    )
    op.create_index(op.f("ix_trials_evaluation_key"), "trials", ["evaluation_key"], unique=False)
    op.create_table(
        "exports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False, comment="the exported trial"),
        sa.Column("folder", sa.Text(), nullable=False, comment="where the files were written"),
        sa.Column("files", sa.JSON(), nullable=False, comment="SHA-256 in hexadecimal, by file name"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_exports_search_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_exports_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index(op.f("ix_exports_search_id"), "exports", ["search_id"], unique=False)
    op.create_table(
        "netadapt_steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False, comment="of the NetAdapt walk"),
        sa.Column("trial", sa.Integer(), nullable=False, comment="number of the accepted trial"),
        sa.Column("parent", sa.Integer(), nullable=False, comment="number of the trial that was narrowed"),
        sa.Column("narrowed", sa.Text(), nullable=False, comment="what became narrower"),
        sa.Column("latency_before_ms", sa.Double(), nullable=False, comment="predicted, ms"),
        sa.Column("latency_after_ms", sa.Double(), nullable=False, comment="predicted, ms"),
        sa.Column("top1_before", sa.Double(), nullable=False, comment="0-1, reward split"),
        sa.Column("top1_after", sa.Double(), nullable=False, comment="0-1, reward split"),
        sa.Column("proposals", sa.Integer(), nullable=False, comment="how many proposals were compared"),
        sa.ForeignKeyConstraint(
            ["search_id", "parent"],
            ["trials.search_id", "trials.number"],
            name=op.f("fk_netadapt_steps_search_id_parent"),
        ),
        sa.ForeignKeyConstraint(
            ["search_id", "trial"],
            ["trials.search_id", "trials.number"],
            name=op.f("fk_netadapt_steps_search_id_trial"),
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_netadapt_steps_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_netadapt_steps")),
        sa.UniqueConstraint("search_id", "iteration", name=op.f("uq_netadapt_steps_search_id_iteration")),
    )
    op.create_table(
        "network_measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("table_id", sa.Integer(), nullable=False, comment="the table that predicted"),
        sa.Column("trial", sa.Integer(), nullable=False, comment="number of the measured trial"),
        sa.Column("predicted_ms", sa.Double(), nullable=False, comment="by the table, ms"),
        sa.Column(
            "measured_ms",
            sa.Double(),
            nullable=False,
            comment="the whole network: low quantile of wall time, batch 1, ms",
        ),
        sa.Column("low_ms", sa.Double(), nullable=False, comment="lower end of the 95 % confidence interval, ms"),
        sa.Column("high_ms", sa.Double(), nullable=False, comment="upper end of the 95 % confidence interval, ms"),
        sa.Column("median_ms", sa.Double(), nullable=False, comment="median of the samples, ms"),
        sa.Column("sample_count", sa.Integer(), nullable=False, comment="how many samples the estimate rests on"),
        sa.Column("samples", sa.JSON(), nullable=False, comment="raw samples in ms, in order of time"),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False, comment="UTC, when it was recorded"),
        sa.ForeignKeyConstraint(
            ["search_id", "trial"],
            ["trials.search_id", "trials.number"],
            name=op.f("fk_network_measurements_search_id_trial"),
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_network_measurements_search_id")),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name=op.f("fk_network_measurements_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_measurements")),
    )
    op.create_index(
        op.f("ix_network_measurements_search_id_trial"), "network_measurements", ["search_id", "trial"], unique=False
    )
