"""Which searches of the queue go first, and trials that were stopped early.

Searches can be read from archives of the four schemas before, which have no priorities.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

STATE = (
    "running, complete, stopped (early, as others did better), pruned (refused untrained: over a limit, or tried "
    "already) or failed"
)
HOURS = {
    "sqlite": "(julianday(COALESCE(searches.finished_at, searches.updated_at)) - julianday(searches.created_at)) * 24",
    "postgresql": "CAST(EXTRACT(EPOCH FROM COALESCE(searches.finished_at, searches.updated_at) - searches.created_at)"
    " AS DOUBLE PRECISION) / 3600",
}
SEARCH_COST = """
CREATE VIEW search_cost AS
WITH own AS (
    SELECT trials.*,
           CASE WHEN trials.reused_from IS NULL THEN COALESCE(trials.duration_s, 0) / 3600 ELSE 0 END AS hours,
           CASE WHEN trials.reused_from IS NULL THEN trials.images_seen ELSE 0 END AS images,
           COALESCE(source.duration_s, 0) / 3600 AS saved_hours
    FROM trials
    LEFT JOIN trials AS source ON source.id = trials.reused_from
), totals AS (
    SELECT search_id, COUNT(*) AS trials,
           SUM(CASE WHEN state = 'complete' THEN 1 ELSE 0 END) AS complete,
           SUM(CASE WHEN state = 'stopped' THEN 1 ELSE 0 END) AS stopped,
           SUM(CASE WHEN state = 'pruned' THEN 1 ELSE 0 END) AS pruned,
           SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) AS failed,
           SUM(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS running,
           SUM(CASE WHEN reused_from IS NULL THEN 0 ELSE 1 END) AS reused,
           SUM(images) AS images, SUM(hours) AS hours,
           SUM(CASE WHEN stage = 'blocks' THEN hours ELSE 0 END) AS blocks_hours,
           SUM(CASE WHEN stage = 'netadapt' THEN hours ELSE 0 END) AS netadapt_hours,
           SUM(CASE WHEN stage = 'final' THEN hours ELSE 0 END) AS final_hours,
           SUM(saved_hours) AS saved_hours
    FROM own
    GROUP BY search_id
)
SELECT searches.name AS search, searches.data, devices.name AS device, searches.owner,
       CAST(COALESCE(totals.trials, 0) AS INTEGER) AS trials,
       CAST(COALESCE(totals.complete, 0) AS INTEGER) AS complete,
       CAST(COALESCE(totals.stopped, 0) AS INTEGER) AS stopped,
       CAST(COALESCE(totals.pruned, 0) AS INTEGER) AS pruned,
       CAST(COALESCE(totals.failed, 0) AS INTEGER) AS failed,
       CAST(COALESCE(totals.running, 0) AS INTEGER) AS running,
       CAST(COALESCE(totals.reused, 0) AS INTEGER) AS reused,
       CAST(COALESCE(totals.images, 0) AS BIGINT) AS images_seen,
       CAST(COALESCE(totals.hours, 0) AS DOUBLE PRECISION) AS core_hours,
       CAST(COALESCE(totals.blocks_hours, 0) AS DOUBLE PRECISION) AS blocks_core_hours,
       CAST(COALESCE(totals.netadapt_hours, 0) AS DOUBLE PRECISION) AS netadapt_core_hours,
       CAST(COALESCE(totals.final_hours, 0) AS DOUBLE PRECISION) AS final_core_hours,
       CAST(COALESCE(totals.saved_hours, 0) AS DOUBLE PRECISION) AS saved_core_hours,
       {wall} AS wall_hours
FROM searches
LEFT JOIN totals ON totals.search_id = searches.id
LEFT JOIN devices ON devices.id = searches.device_id
"""


def upgrade() -> None:
    """Add a column, and count one more state in the view of costs."""
    op.add_column(
        "searches",
        sa.Column(
            "priority",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="of those that wait in the queue, the highest goes first",
        ),
    )
    op.execute("DROP VIEW search_cost")
    dialect = op.get_bind().dialect.name
    op.get_bind().exec_driver_sql(SEARCH_COST.format(wall=HOURS[dialect]))
    if dialect == "postgresql":  # SQLite keeps no comments
        op.execute(f"COMMENT ON COLUMN trials.state IS '{STATE}'")
