"""What a search remembers of its data, so that its networks can be told of and exported without it.

Searches can be read from archives of the five schemas before, which have none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add a column."""
    op.add_column(
        "searches",
        sa.Column(
            "data_facts",
            sa.JSON(),
            comment="classes, preprocessing, images per class and split, labels of the test split, what was left out; "
            "NULL: no data, or recorded before 0008",
        ),
    )
