"""What a network says of the right class, beside whether it is right: it tells networks apart with fewer images.

Searches can be read from archives of the six schemas before, which have none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add two columns."""
    for name, what in (
        ("log_likelihood", "mean natural logarithm of the right class's probability"),
        ("probability", "mean probability of the right class, 0-1"),
    ):
        op.add_column(
            "trials",
            sa.Column(name, sa.Double(), comment=f"{what}, on the images of top1; NULL: none, or recorded before 0009"),
        )
