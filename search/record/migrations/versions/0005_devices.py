"""Devices that are reached over ssh or by kit, validations of latency tables, and searches that await certification.

Blocks get columns that may be NULL, so that archives of the two schemas before are read without them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

STAGES = "queued, blocks, netadapt, final, awaiting-certification or done"
STATISTICS = {
    "low_ms": "lower end of warm_cpu_ms's 95 % interval; NULL: recorded before it was kept",
    "high_ms": "upper end of warm_cpu_ms's 95 % interval; NULL: likewise",
    "spread": "median of the warm CPU samples above warm_cpu_ms, relative; NULL: likewise",
}


def upgrade() -> None:
    """Create the new tables."""
    for name, comment in STATISTICS.items():
        op.add_column("latency_entries", sa.Column(name, sa.Double(), comment=comment))
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "device_settings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="the user's own name for the device"),
        sa.Column("address", sa.Text(), nullable=False, comment="local, kit, or ssh://user@host:port"),
        sa.Column("python", sa.Text(), nullable=False, comment="the Python to call there"),
        sa.Column("cpus", sa.Text(), comment="cores to keep to, such as 4-7; NULL: all"),
        sa.Column("provider", sa.Text(), nullable=False, comment="ONNX Runtime execution provider"),
        sa.Column("threads", sa.Integer(), nullable=False, comment="ONNX Runtime intra-op threads"),
        sa.Column("graph_optimization", sa.Text(), nullable=False, comment="ONNX Runtime graph optimisation level"),
        sa.Column("created_at", moment, nullable=False, comment="UTC"),
        sa.PrimaryKeyConstraint("id", name="pk_device_settings"),
        sa.UniqueConstraint("name", name="uq_device_settings_name"),
    )
    op.create_table(
        "validations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("table_id", sa.Integer(), nullable=False, comment="the table that predicted"),
        sa.Column("under_load", sa.Boolean(), nullable=False, comment="whether a busy process per core ran beside it"),
        sa.Column(
            "drift_wall", sa.Double(), nullable=False, comment="wall time of known blocks then, divided by the table's"
        ),
        sa.Column(
            "drift_cpu",
            sa.Double(),
            nullable=False,
            comment="thread CPU time of known blocks then, divided by the table's",
        ),
        sa.Column(
            "conditions",
            sa.JSON(),
            nullable=False,
            comment="what else bore on it: load, governor, frequency, temperature",
        ),
        sa.Column("measured_at", moment, nullable=False, comment="UTC, when it was recorded"),
        sa.PrimaryKeyConstraint("id", name="pk_validations"),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name="fk_validations_table_id_latency_tables"),
    )
    op.create_index("ix_validations_table_id", "validations", ["table_id"])
    op.create_table(
        "validated_networks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("validation_id", sa.Integer(), nullable=False),
        sa.Column("network_group", sa.Text(), nullable=False, comment="random, near_target or netadapt"),
        sa.Column("arch_id", sa.Text(), nullable=False, comment="content hash of the architecture"),
        sa.Column("architecture", sa.Text(), nullable=False, comment="canonical JSON of the spec"),
        sa.Column("madds", sa.BigInteger(), nullable=False, comment="multiply-adds of one image"),
        sa.Column("predicted_ms", sa.Double(), nullable=False, comment="wall time by the table, ms"),
        sa.Column(
            "measured_ms", sa.Double(), nullable=False, comment="the whole network: low quantile of wall time, ms"
        ),
        sa.Column("predicted_cpu_ms", sa.Double(), nullable=False, comment="thread CPU time by the table, ms"),
        sa.Column(
            "measured_cpu_ms",
            sa.Double(),
            nullable=False,
            comment="the whole network: low quantile of thread CPU time, ms",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_validated_networks"),
        sa.ForeignKeyConstraint(
            ["validation_id"], ["validations.id"], name="fk_validated_networks_validation_id_validations"
        ),
    )
    op.create_index("ix_validated_networks_validation_id", "validated_networks", ["validation_id"])
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        op.execute(f"COMMENT ON COLUMN searches.stage IS '{STAGES}'")
