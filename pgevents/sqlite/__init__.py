"""The room for SQLite."""
