"""The views, for people and tools that read with SQL: flat, typed, each with one documented grain (`record/views.py`).

Numbers are integers and doubles, never PostgreSQL's numeric, and flags are 0 or 1: tools read them alike from both
databases.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

TRIAL_SUMMARY = """
CREATE VIEW trial_summary AS
SELECT searches.name AS search, trials.number, trials.stage, trials.state, trials.origin, trials.arch_id,
       trials.top1, trials.latency_ms, trials.madds, trials.params_count, trials.reward, searches.target_ms,
       trials.duration_s, trials.images_seen, trials.parent, trials.iteration, trials.error,
       trials.started_at, trials.finished_at, searches.data, devices.name AS device, searches.owner, trials.attempt,
       CASE WHEN trials.reused_from IS NULL THEN 0 ELSE 1 END AS reused,
       CASE WHEN trials.latency_ms <= searches.target_ms THEN 1 ELSE 0 END AS within_target,
       CAST(trials.correct AS DOUBLE PRECISION) / NULLIF(trials.total, 0) AS test_top1
FROM trials
JOIN searches ON searches.id = trials.search_id
LEFT JOIN devices ON devices.id = searches.device_id
"""

# What comes in is what the block before put out; the first one gets the stem's channels.
TRIAL_BLOCKS = {
    "sqlite": """
CREATE VIEW trial_blocks AS
SELECT searches.name AS search, trials.number,
       stages.key + 1 AS stage_index, blocks.key + 1 AS block_index,
       json_extract(blocks.value, '$.kernel_size') AS kernel_size,
       COALESCE(
           LAG(json_extract(stages.value, '$.out_channels'))
               OVER (PARTITION BY trials.id ORDER BY stages.key, blocks.key),
           json_extract(trials.architecture, '$.stem.out_channels')
       ) AS in_channels,
       json_extract(blocks.value, '$.expanded_channels') AS expanded_channels,
       json_extract(stages.value, '$.out_channels') AS out_channels,
       CASE WHEN blocks.key = 0 THEN json_extract(stages.value, '$.stride') ELSE 1 END AS stride,
       json_extract(blocks.value, '$.use_se') AS use_se,
       json_extract(blocks.value, '$.activation') AS activation
FROM trials
JOIN searches ON searches.id = trials.search_id
JOIN json_each(trials.architecture, '$.stages') AS stages
JOIN json_each(stages.value, '$.blocks') AS blocks
""",
    "postgresql": """
CREATE VIEW trial_blocks AS
SELECT searches.name AS search, trials.number,
       CAST(stages.place AS INTEGER) AS stage_index, CAST(blocks.place AS INTEGER) AS block_index,
       CAST(blocks.value ->> 'kernel_size' AS INTEGER) AS kernel_size,
       CAST(COALESCE(
           LAG(stages.value ->> 'out_channels') OVER (PARTITION BY trials.id ORDER BY stages.place, blocks.place),
           CAST(trials.architecture AS JSONB) -> 'stem' ->> 'out_channels'
       ) AS INTEGER) AS in_channels,
       CAST(blocks.value ->> 'expanded_channels' AS INTEGER) AS expanded_channels,
       CAST(stages.value ->> 'out_channels' AS INTEGER) AS out_channels,
       CASE WHEN blocks.place = 1 THEN CAST(stages.value ->> 'stride' AS INTEGER) ELSE 1 END AS stride,
       CASE WHEN CAST(blocks.value ->> 'use_se' AS BOOLEAN) THEN 1 ELSE 0 END AS use_se,
       blocks.value ->> 'activation' AS activation
FROM trials
JOIN searches ON searches.id = trials.search_id
CROSS JOIN LATERAL jsonb_array_elements(CAST(trials.architecture AS JSONB) -> 'stages')
    WITH ORDINALITY AS stages(value, place)
CROSS JOIN LATERAL jsonb_array_elements(stages.value -> 'blocks') WITH ORDINALITY AS blocks(value, place)
""",
}

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

# The calibration is JSON, which the two databases take apart by different words.
CALIBRATION = {
    "sqlite": (
        "json_extract(newest.calibration, '$.networks')",
        "json_extract(newest.calibration, '$.error') * 100",
    ),
    "postgresql": (
        "CAST(newest.calibration ->> 'networks' AS INTEGER)",
        "CAST(newest.calibration ->> 'error' AS DOUBLE PRECISION) * 100",
    ),
}
DEVICE_COVERAGE = """
CREATE VIEW device_coverage AS
WITH finished AS (
    SELECT latency_tables.*,
           ROW_NUMBER() OVER (PARTITION BY device_id, scope ORDER BY finished_at DESC, id DESC) AS place,
           COUNT(*) OVER (PARTITION BY device_id, scope) AS tables
    FROM latency_tables
    WHERE finished_at IS NOT NULL
), errors AS (
    SELECT latency_tables.device_id, latency_tables.scope, COUNT(*) AS networks,
           AVG(ABS(predicted_ms / measured_ms - 1)) * 100 AS mean_pct,
           MAX(ABS(predicted_ms / measured_ms - 1)) * 100 AS max_pct
    FROM network_measurements
    JOIN latency_tables ON latency_tables.id = network_measurements.table_id
    GROUP BY latency_tables.device_id, latency_tables.scope
), users AS (
    SELECT latency_tables.device_id, latency_tables.scope, COUNT(*) AS searches
    FROM searches
    JOIN latency_tables ON latency_tables.id = searches.table_id
    GROUP BY latency_tables.device_id, latency_tables.scope
), sizes AS (
    SELECT table_id, COUNT(*) AS blocks FROM latency_entries GROUP BY table_id
)
SELECT devices.name AS device, devices.processor, devices.threads, devices.runtime_version, devices.fingerprint,
       newest.scope, CAST(newest.tables AS INTEGER) AS tables, newest.id AS newest_table,
       newest.finished_at AS newest_at, CAST(COALESCE(sizes.blocks, 0) AS INTEGER) AS blocks,
       {networks} AS calibration_networks, {error} AS calibration_error_pct,
       CAST(COALESCE(users.searches, 0) AS INTEGER) AS searches,
       CAST(COALESCE(errors.networks, 0) AS INTEGER) AS networks_measured,
       errors.mean_pct AS mean_error_pct, errors.max_pct AS max_error_pct
FROM finished AS newest
JOIN devices ON devices.id = newest.device_id
LEFT JOIN sizes ON sizes.table_id = newest.id
LEFT JOIN users ON users.device_id = newest.device_id AND users.scope = newest.scope
LEFT JOIN errors ON errors.device_id = newest.device_id AND errors.scope = newest.scope
WHERE newest.place = 1
"""

CERTIFIED_EXPORTS = """
CREATE VIEW certified_exports AS
SELECT searches.name AS search, searches.data, searches.data_hash, devices.name AS device, searches.owner,
       trials.number, trials.origin, trials.arch_id, trials.madds, trials.params_count,
       CAST(trials.correct AS DOUBLE PRECISION) / NULLIF(trials.total, 0) AS test_top1,
       measured.predicted_ms, measured.measured_ms, measured.low_ms, measured.high_ms,
       (measured.predicted_ms / measured.measured_ms - 1) * 100 AS error_pct, searches.target_ms,
       CASE WHEN measured.measured_ms <= searches.target_ms THEN 1 ELSE 0 END AS meets_target,
       exports.folder, exports.created_at AS exported_at
FROM exports
JOIN trials ON trials.id = exports.trial_id
JOIN searches ON searches.id = exports.search_id
JOIN (
    SELECT network_measurements.*,
           ROW_NUMBER() OVER (PARTITION BY search_id, trial ORDER BY measured_at DESC, id DESC) AS place
    FROM network_measurements
) AS measured ON measured.search_id = trials.search_id AND measured.trial = trials.number AND measured.place = 1
LEFT JOIN devices ON devices.id = searches.device_id
"""

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

LEADERBOARD = """
CREATE VIEW leaderboard AS
SELECT data, data_hash, device, search, owner, number, arch_id, test_top1, measured_ms, target_ms, meets_target, madds,
       params_count, exported_at
FROM (
    SELECT certified_exports.*,
           ROW_NUMBER() OVER (
               PARTITION BY data, data_hash, device
               ORDER BY meets_target DESC, test_top1 DESC, measured_ms, exported_at
           ) AS place
    FROM certified_exports
    WHERE origin = 'found' AND test_top1 IS NOT NULL
) AS candidates
WHERE place = 1
"""


def upgrade() -> None:
    """Create the views; later ones rest on earlier ones."""
    dialect = op.get_bind().dialect.name
    networks, error = CALIBRATION[dialect]
    for view in (
        TRIAL_SUMMARY,
        TRIAL_BLOCKS[dialect],
        PARETO_FRONT,
        BEST_TRIAL,
        DEVICE_COVERAGE.format(networks=networks, error=error),
        CERTIFIED_EXPORTS,
        SEARCH_COST.format(wall=HOURS[dialect]),
        LEADERBOARD,
    ):
        # As it is: a colon in it would be taken for a parameter.
        op.get_bind().exec_driver_sql(view)
