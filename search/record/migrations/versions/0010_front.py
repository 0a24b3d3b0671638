"""Of a race the front is drawn of networks that were trained alike: those of the last rung that several have ended.

Who was trained for less is less accurate for that. Archives of the seven schemas before have the same tables.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

# As in 0003, but within the rung: of block-level trials the number of which is the iteration of those that a race has
# trained on.
PARETO_FRONT = """
CREATE VIEW pareto_front AS
WITH judged AS (
    SELECT trial_summary.*, CASE WHEN origin = 'promoted' THEN iteration ELSE 0 END AS rung
    FROM trial_summary
    WHERE state = 'complete' AND stage IN ('blocks', 'netadapt') AND top1 IS NOT NULL
), counted AS (
    SELECT judged.*, COUNT(*) OVER (PARTITION BY search, stage, rung) AS ended
    FROM judged
), candidates AS (
    SELECT counted.*,
           MAX(CASE WHEN ended > 1 OR rung = 0 THEN rung END) OVER (PARTITION BY search, stage) AS last_rung,
           MAX(top1) OVER (PARTITION BY search, stage, rung ORDER BY latency_ms) AS highest_top1,
           MIN(latency_ms) OVER (PARTITION BY search, stage, rung, top1) AS lowest_latency_ms
    FROM counted
)
SELECT search, stage, number, arch_id, top1, latency_ms, madds, params_count, reward
FROM candidates
WHERE rung = last_rung AND top1 = highest_top1 AND latency_ms = lowest_latency_ms
"""


def upgrade() -> None:
    """Draw it anew."""
    op.execute("DROP VIEW pareto_front")
    op.execute(PARETO_FRONT)
