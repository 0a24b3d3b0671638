"""Networks of any kind can be enqueued: `trial_blocks` tells the kind of each block, and comments name the new words.

No table changes, so that archives of the schema before are read as they are.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

COMMENTS = {
    "trials.origin": "who proposed it: a sampler, reference, enqueued, or what NetAdapt narrowed",
    "latency_entries.reason": "who asked for it: space, reference, netadapt or enqueued",
}

# What comes in is what the block before put out; the first one gets the stem's channels. A spec leaves out the kind
# where it is the default.
TRIAL_BLOCKS = {
    "sqlite": """
CREATE VIEW trial_blocks AS
SELECT searches.name AS search, trials.number,
       stages.key + 1 AS stage_index, blocks.key + 1 AS block_index,
       COALESCE(json_extract(blocks.value, '$.kind'), 'inverted_residual') AS kind,
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
       COALESCE(blocks.value ->> 'kind', 'inverted_residual') AS kind,
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


def upgrade() -> None:
    """Make the view anew; the reader's rights to it follow from the schema's default privileges."""
    bind = op.get_bind()
    bind.exec_driver_sql("DROP VIEW trial_blocks")
    bind.exec_driver_sql(TRIAL_BLOCKS[bind.dialect.name])
    if bind.dialect.name == "postgresql":  # SQLite keeps no comments
        for column, comment in COMMENTS.items():
            op.execute(f"COMMENT ON COLUMN {column} IS '{comment}'")
