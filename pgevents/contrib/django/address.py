"""Where an entry of DATABASES leads, as a URL for a Hub."""

from typing import Any, Dict

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from sqlalchemy.engine import URL

from ...errors import UsageError

#: What a URL names itself; all else that libpq knows goes into its query.
_PARTS = ("user", "password", "host", "port", "dbname")


def url_of(alias: str) -> URL:
    """Return the URL of the database that Django means by ``alias`` now.

    In a test that is the test's database. No connection is made. Raises UsageError.
    """
    connection = connections[alias]
    if connection.vendor == "postgresql":
        try:
            return _postgresql(connection)
        except ImproperlyConfigured as error:
            raise UsageError(f"DATABASES[{alias!r}]: {error}") from error
    if connection.vendor == "sqlite":
        return _sqlite(connection)
    raise UsageError(
        f"DATABASES[{alias!r}] is {connection.vendor}: pgevents serves PostgreSQL and SQLite. Name"
        ' aliases of those in PGEVENTS["DATABASES"]'
    )


def is_in_memory(alias: str) -> bool:
    """Tell whether an alias means a SQLite database in memory, as Django's tests use it."""
    connection = connections[alias]
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


def _sqlite(connection: Any) -> URL:
    if connection.is_in_memory_db():
        alias = connection.alias
        raise UsageError(
            f"the database {alias!r} is in memory, and nobody else can watch it: give"
            f' DATABASES[{alias!r}] a file; for tests DATABASES[{alias!r}]["TEST"] ='
            ' {"NAME": BASE_DIR / "test.sqlite3"}'
        )
    name = str(connection.get_connection_params()["database"])
    return URL.create("sqlite", database=name, query={"uri": "true"} if _is_uri(name) else {})


def _is_uri(name: str) -> bool:
    return name.startswith("file:")


def _postgresql(connection: Any) -> URL:
    from ...postgres.address import known_to_libpq

    given = known_to_libpq(_without_objects(connection.get_connection_params()))
    role = connection.settings_dict["OPTIONS"].get("assume_role")
    if role:  # Django sends SET ROLE
        given["options"] = f"{given.get('options', '')} -c role={_escaped(role)}".strip()
    query = {name: str(value) for name, value in given.items() if name not in _PARTS}
    host, port = given.get("host"), given.get("port")
    if port is not None and not str(port).isdigit():  # one for each of several hosts
        query.update(host=str(host), port=str(port))
        host = port = None
    return URL.create(
        "postgresql",
        username=given.get("user"),
        password=given.get("password"),
        host=host,
        port=None if port is None else int(port),
        database=given.get("dbname"),
        query=query,
    )


def _without_objects(parameters: Dict[str, Any]) -> Dict[str, Any]:
    # The others are classes for the driver: a cursor factory, an adapters map.
    found = {
        name: value
        for name, value in parameters.items()
        if isinstance(value, (str, int)) and not isinstance(value, bool)
    }
    if "database" in found:  # as Django before 4.2 calls it
        found["dbname"] = found.pop("database")
    return found


def _escaped(text: str) -> str:
    """Write a value as libpq's ``options`` take it: a space would end it."""
    return text.replace("\\", "\\\\").replace(" ", "\\ ")
