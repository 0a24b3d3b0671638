"""Groups of searches, one network for several devices, peak memory, and what samplers note of their proposals.

Searches, trials and the new tables can be read from archives of the three schemas before, which hold none of it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ORIGIN = "who proposed it: a sampler, reference, enqueued, adopted (from another search), or what NetAdapt narrowed"
LATENCY = (
    "predicted by the latency table: batch 1, wall time, ms; for one network on several devices the slowest one's, as "
    "a share of its target, in ms of the first"
)


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column(
        "searches",
        sa.Column("group_name", sa.Text(), comment="searches that belong together: replicates, or one per device"),
    )
    op.add_column(
        "trials",
        sa.Column(
            "peak_bytes",
            sa.BigInteger(),
            comment="largest working set of activations; NULL: recorded before it was kept",
        ),
    )
    op.add_column(
        "trials", sa.Column("sampler_attrs", sa.JSON(), comment="what the sampler noted of its proposal; NULL: nothing")
    )
    op.create_table(
        "search_targets",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("table_id", sa.Integer(), nullable=False, comment="the latency table of this device"),
        sa.Column(
            "target_ms", sa.Double(), nullable=False, comment="latency that the final network must meet there, ms"
        ),
        sa.Column("reference_ms", sa.Double(), nullable=False, comment="predicted latency of the reference there, ms"),
        sa.PrimaryKeyConstraint("search_id", "table_id", name="pk_search_targets"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_search_targets_search_id_searches"),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name="fk_search_targets_table_id_latency_tables"),
    )
    op.create_table(
        "trial_latencies",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="of the trial"),
        sa.Column("table_id", sa.Integer(), nullable=False, comment="the latency table of this device"),
        sa.Column("latency_ms", sa.Double(), nullable=False, comment="predicted there: batch 1, wall time, ms"),
        sa.PrimaryKeyConstraint("search_id", "number", "table_id", name="pk_trial_latencies"),
        sa.ForeignKeyConstraint(
            ["search_id", "number"], ["trials.search_id", "trials.number"], name="fk_trial_latencies_search_id_trials"
        ),
        sa.ForeignKeyConstraint(["table_id"], ["latency_tables.id"], name="fk_trial_latencies_table_id_latency_tables"),
    )
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        for column, comment in (("origin", ORIGIN), ("latency_ms", LATENCY)):
            op.execute(f"COMMENT ON COLUMN trials.{column} IS '{comment.replace(chr(39), chr(39) * 2)}'")
