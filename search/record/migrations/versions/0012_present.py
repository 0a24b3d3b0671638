"""The model that a user has at present, tested and measured beside what a search finds.

Archives of the nine schemas before know nothing of it.
"""

import sqlalchemy as sa
from alembic import op

from search.record.schema import UtcDateTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "present_models",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="of the ONNX file that the user has at present"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of that file, in hexadecimal"),
        sa.Column("correct", sa.Integer(), nullable=False, comment="images of the test split that it classifies right"),
        sa.Column("total", sa.Integer(), nullable=False, comment="images of the test split"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_present_models_search_id")),
        sa.PrimaryKeyConstraint("search_id", name=op.f("pk_present_models")),
    )
    op.create_table(
        "present_measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("table_id", sa.Integer(), nullable=False, comment="the latency table of this device"),
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
        sa.Column("measured_at", UtcDateTime(), nullable=False, comment="UTC, when it was recorded"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_present_measurements_search_id")),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name=op.f("fk_present_measurements_table_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_present_measurements")),
    )
    op.create_index(op.f("ix_present_measurements_search_id"), "present_measurements", ["search_id"], unique=False)
