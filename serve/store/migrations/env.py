"""Alembic's entry point: runs the migrations on the connection that `database.migrate` hands over."""

from alembic import context

from lakebed.serve.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
