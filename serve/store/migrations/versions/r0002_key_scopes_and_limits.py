"""What a key may use, and how much of it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keys that are there may use every model and have the server's limits."""
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("models", sa.JSON(none_as_null=True)))
        table.add_column(sa.Column("admin", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("requests_per_minute", sa.Integer()))
        table.add_column(sa.Column("tokens_per_minute", sa.Integer()))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("api_keys") as table:
        for name in ("models", "admin", "requests_per_minute", "tokens_per_minute"):
            table.drop_column(name)
