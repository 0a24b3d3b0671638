"""What the signals that races choose by are worth, where that was looked at.

Archives of the eight schemas before have the same tables of a search.
"""

import sqlalchemy as sa
from alembic import op

from search.record.schema import UtcDateTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "signal_qualities",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data_hash", sa.Text(), nullable=False, comment="content hash of the data set"),
        sa.Column("scope", sa.Text(), nullable=False, comment="content hash of the search space"),
        sa.Column(
            "recipes",
            sa.Text(),
            nullable=False,
            comment="hash of how networks are trained, in a race and in the end",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="the searches whose networks were compared"),
        sa.Column("compared", sa.Text(), nullable=False, comment="which of them: space (all), or near the limit"),
        sa.Column(
            "signal",
            sa.Text(),
            nullable=False,
            comment="what orders networks: a short training, multiply-adds, depth, ...",
        ),
        sa.Column(
            "images", sa.BigInteger(), comment="images that the short training has seen; NULL: nothing is trained"
        ),
        sa.Column("networks", sa.Integer(), nullable=False, comment="how many were compared"),
        sa.Column("trainings", sa.Integer(), nullable=False, comment="how often each was trained to the end"),
        sa.Column(
            "tau", sa.Double(), comment="Kendall's tau-b with the top-1 at the end; NULL: the signal orders nothing"
        ),
        sa.Column("tau_low", sa.Double(), comment="lower end of its 95 % interval, over networks; NULL: likewise"),
        sa.Column("tau_high", sa.Double(), comment="upper end; NULL: likewise"),
        sa.Column(
            "regrets",
            sa.JSON(),
            nullable=False,
            comment="points of top-1 lost, by how many of its best are trained on",
        ),
        sa.Column("seconds", sa.Double(), comment="of one core for each network; NULL: not known"),
        sa.Column("measured_at", UtcDateTime(), nullable=False, comment="UTC"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signal_qualities")),
    )
    op.create_index(op.f("ix_signal_qualities_data_hash"), "signal_qualities", ["data_hash"], unique=False)
