"""The views, for people and tools that read with SQL: flat, typed, each with one documented grain."""

from alembic import op

revision = "0003"
down_revision = "0002"

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
    """Create the views."""
    for view in (TRIAL_SUMMARY, PARETO_FRONT, BEST_TRIAL):
        op.execute(view)
