"""A table as it was found in the database."""

from typing import Any, Iterable, Optional, Tuple

from ..listening.target import Target


class Relation:
    """A table that was found in the database.

    ``schema`` and ``name`` as the database has them; ``topic`` is what its
    log rows bear; ``columns`` in order; ``key`` the primary key's. Another
    ``oid`` under the same name is a table created again; None: not known.
    """

    def __init__(
        self,
        schema: str,
        name: str,
        columns: Tuple[str, ...],
        key: Tuple[str, ...],
        oid: Optional[int] = None,
        **more: Any,
    ) -> None:
        self.schema = schema
        self.name = name
        self.topic = f"{schema}.{name}"
        self.columns = columns
        self.key = key
        self.oid = oid
        self.more = more  # what only its own backend understands

    @property
    def place(self) -> Tuple[str, str]:
        """Where it is: schema and name, which two tables of one topic do not share."""
        return self.schema, self.name

    @property
    def label(self) -> str:
        """Its name as a listener, or the command, has to give it."""
        return Target(self.schema, self.name).key


def of_one_topic(topic: str, names: Iterable[str]) -> str:
    """Say that the events of these tables could not be told apart, as their names hold dots."""
    return (
        f"the tables {' and '.join(names)} have one topic, {topic}: their events cannot be told"
        " apart. Rename one of them, or its schema, so that no schema's name holds a dot"
    )
