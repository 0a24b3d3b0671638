"""A queue: searches are claimed by coordinators, carry owner, labels and note, and keep their log.

The views rest on the changed tables, so they are dropped here; the next migration makes them anew.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Columns of `searches` that are not known before a search has begun, with their new comments.
_LATER: dict[str, tuple[sa.types.TypeEngine[Any], str]] = {
    "run_folder": (sa.Text(), "folder of weights and exports; NULL while queued"),
    "data_hash": (sa.Text(), "content hash of the data set; NULL while queued"),
    "device_id": (sa.Integer(), "the device of the latency table; NULL while queued"),
    "table_id": (sa.Integer(), "the latency table of all predictions; NULL: queued"),
    "target_ms": (sa.Double(), "latency that the final network must meet, ms; NULL while queued"),
    "seed_target_ms": (sa.Double(), "latency that the block-level search aims at, ms; NULL while queued"),
    "fastest_ms": (sa.Double(), "predicted latency of the space's fastest network, ms; NULL while queued"),
    "slowest_ms": (sa.Double(), "predicted latency of the space's slowest network, ms; NULL while queued"),
    "reference_ms": (sa.Double(), "predicted latency of the reference network, ms; NULL while queued"),
}

_NEW: tuple[sa.Column[object], ...] = (
    sa.Column("data", sa.Text(), comment="data set: fashion-mnist, cifar10 or imagefolder:PATH"),
    sa.Column("owner", sa.Text(), comment="who started it; NULL: recorded before there were owners"),
    sa.Column("note", sa.Text(), comment="free text of the owner"),
    sa.Column("budget", sa.Text(), comment="quick, default, thorough or a time, as asked for; NULL: not recorded"),
    sa.Column(
        "queued_at",
        sa.DateTime(timezone=True),
        comment="UTC, when it was put into the queue; NULL: runs in the foreground",
    ),
    sa.Column(
        "stop_requested",
        sa.Boolean(),
        nullable=False,
        server_default=sa.false(),
        comment="the user asked to stop; a coordinator leaves it alone",
    ),
    sa.Column(
        "claimed_by", sa.Text(), comment="the process that runs it: host, kernel, process and a random part; NULL: none"
    ),
    sa.Column(
        "heartbeat_at",
        sa.DateTime(timezone=True),
        comment="UTC by the database's clock, last sign of life of that process",
    ),
    sa.Column(
        "claims",
        sa.Integer(),
        nullable=False,
        server_default="0",
        comment="how often it was claimed since a trial was last completed",
    ),
)


def upgrade() -> None:
    """Drop the views, then change the tables."""
    for view in ("best_trial", "pareto_front", "trial_summary"):
        op.execute(f"DROP VIEW {view}")
    with op.batch_alter_table("searches") as batch:
        for name, (kind, comment) in _LATER.items():
            batch.alter_column(name, existing_type=kind, nullable=True, comment=comment)
        batch.alter_column("stage", existing_type=sa.Text(), comment="queued, blocks, netadapt, final or done")
        for column in _NEW:
            batch.add_column(column)
    searches = sa.table("searches", sa.column("data", sa.Text), sa.column("config", sa.JSON))
    op.execute(searches.update().values(data=searches.c.config["data"]["source"].as_string()))
    with op.batch_alter_table("searches") as batch:
        batch.alter_column("data", existing_type=sa.Text(), nullable=False)
        batch.alter_column("stop_requested", existing_type=sa.Boolean(), server_default=None)
        batch.alter_column("claims", existing_type=sa.Integer(), server_default=None)
    op.create_table(
        "search_labels",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column(
            "label", sa.Text(), nullable=False, comment="a word by which searches are grouped, such as a project"
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_search_labels_search_id")),
        sa.PrimaryKeyConstraint("search_id", "label", name=op.f("pk_search_labels")),
    )
    op.create_table(
        "log_lines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Integer(), comment="number of the trial it is about; NULL: about the search"),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="UTC, by the clock of the process that runs the search",
        ),
        sa.Column("level", sa.Text(), nullable=False, comment="debug, info, warning or error"),
        sa.Column("event", sa.Text(), nullable=False, comment="begin, progress, end, note, trial or step"),
        sa.Column("message", sa.Text(), nullable=False, comment="the line for people"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_log_lines_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_lines")),
    )
    op.create_index(op.f("ix_log_lines_search_id"), "log_lines", ["search_id"])
