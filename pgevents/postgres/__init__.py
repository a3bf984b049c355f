"""The room for PostgreSQL."""
