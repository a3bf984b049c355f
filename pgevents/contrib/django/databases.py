"""The hub of each database that the setting PGEVENTS names: made, started and stopped."""

import contextlib
import logging
import os
import threading
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
    TypeVar,
    Union,
)

from django.core import mail
from django.db import close_old_connections, connections

from ...channels.subscription import MOMENT, Subscription
from ...delivery.around import Factory
from ...errors import PgEventsError, UsageError
from ...hub import Hub
from ...listening.registry import Registry
from ...listening.registry import default as default_registry
from ...listening.target import Target, moments_of
from .address import url_of
from .config import Config
from .targets import target_of

logger = logging.getLogger("pgevents")

FIRST_REQUEST = 1.0  # seconds that the first request waits for the hub, to be received itself
STOP_TIMEOUT = 10.0  # seconds for the listeners to finish what was taken

Function = TypeVar("Function", bound=Callable[..., Any])


class Database:
    """One database: its listeners, which are there from the start, and its hub, made when needed.

    The hub is made for the address that the alias has then, and made again when that is another
    one: Django's tests give it that of their own database.
    """

    def __init__(self, alias: str, registry: Registry) -> None:
        self.alias = alias
        self.registry = registry
        self._prepare: List[Callable[[Hub], Any]] = []  # called with each new hub
        self._hub: Optional[Hub] = None
        self._url: Any = None
        self._used: Set[Any] = set()  # Django's connections that the hub's threads have
        self._lock = threading.Lock()

    def tell(self, step: Callable[[Hub], Any]) -> None:
        """Do this with the hub, and with each that takes its place."""
        self._prepare.append(step)
        if self._hub is not None:
            step(self._hub)

    def hub(self) -> Hub:
        """Return the hub. Raises UsageError where the database cannot have one."""
        with self._lock:
            url = url_of(self.alias)
            if self._hub is None or self._url != url:
                former, self._hub = self._hub, self._made(url)
                self._url = url
                if former is not None:
                    former.stop(STOP_TIMEOUT)
            return self._hub

    def stop(self, timeout: float) -> None:
        """Stop the hub, if there is one, and close the connections of its threads.

        With CONN_MAX_AGE they are open still, and a test's database could not be dropped.
        """
        if self._hub is not None and not self._hub.stop(timeout):
            for connection in [self._used.pop() for _ in range(len(self._used))]:
                if connection is not connections[connection.alias]:  # a listener stops us
                    connection.inc_thread_sharing()  # its thread is gone
                    connection.close()

    def _made(self, url: Any) -> Hub:
        hub = Hub(url, self.registry, **Config().options)
        hub.around(self._in_fresh_connections)
        for step in self._prepare:
            step(hub)
        return hub

    @contextlib.contextmanager
    def _in_fresh_connections(self, listener: Any, events: Any) -> Iterator[None]:
        """Drop connections that are too old or broken, as Django does around each request."""
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()
            # In a thread of the hub: each has its own.
            self._used.update(one for one in connections.all() if one.connection is not None)


_databases: Dict[str, Database] = {}


def database(using: Optional[str] = None) -> Database:
    """Return what serves an alias; without one the first of PGEVENTS. Raises UsageError."""
    aliases = Config().databases
    alias = using or aliases[0]
    if alias not in aliases:
        raise UsageError(f'no hub for {alias!r}: PGEVENTS["DATABASES"] names {", ".join(aliases)}')
    if alias not in _databases:
        registry = default_registry if alias == aliases[0] else Registry()
        _databases.setdefault(alias, Database(alias, registry))  # another thread may be here
    return _databases[alias]


# Life.


def hub(using: Optional[str] = None) -> Hub:
    """Return the hub of a database: of an alias, or of the first that PGEVENTS names.

    Keep it no longer than a function runs: a test's database has another one.
    """
    return database(using).hub()


def start(wait: bool = False) -> None:
    """Start the hub of each database.

    An error is logged, and the application goes on; with ``wait`` it is raised, and so is that of
    a database that cannot be reached.
    """
    for alias in Config().databases:
        try:
            hub(alias).start(wait=wait)
        except PgEventsError as error:
            if wait:
                raise
            logger.error("no listener is called for the database %r: %s", alias, error)


def stop(timeout: float = STOP_TIMEOUT) -> None:
    """Stop the hubs, and let their listeners finish what was taken."""
    for one in list(_databases.values()):
        one.stop(timeout)


_served: List[int] = []  # the process that has had its first request


def start_with_first_request(sender: Any, **_: Any) -> None:
    """Start the hubs where requests are served, and only there.

    So there is none in the master of a prefork server, in the parent of a reloader, in other
    commands, and in tests.
    """
    if os.getpid() in _served or hasattr(mail, "outbox"):  # Django's tests make an outbox
        return
    _served[:] = [os.getpid()]
    start()
    for alias in Config().databases:
        with contextlib.suppress(PgEventsError):
            hub(alias).wait_ready(FIRST_REQUEST)


# Who listens: as with a Hub, but before there is one.


def listens_for(
    target: Any, *moments: str, using: Optional[str] = None, **options: Any
) -> Callable[[Function], Function]:
    """Call the decorated function for changes of a model, a table's name, or ANY.

    ``using`` is the alias of its database; without it, it is the one that a router chooses for
    the model's writes. All else is as with ``pgevents.listens_for``.
    """
    identifier = moments_of(moments)

    def register(fn: Function) -> Function:
        listen(target, identifier, fn, using=using, **options)
        return fn

    return register


def listen(
    target: Any,
    identifier: Union[str, Iterable[str]],
    fn: Callable[..., Any],
    using: Optional[str] = None,
    **options: Any,
) -> None:
    """Call ``fn(event)`` for each change: see ``listens_for()``."""
    place, target = _meant(target, using)
    place.registry.listen(target, identifier, fn, **options)


def remove(
    target: Any, identifier: Union[str, Iterable[str]], fn: Any, using: Optional[str] = None
) -> None:
    """Take back ``listen``. Raises UsageError if there is no such listener."""
    place, target = _meant(target, using)
    place.registry.remove(target, identifier, fn)


def contains(
    target: Any, identifier: Union[str, Iterable[str]], fn: Any, using: Optional[str] = None
) -> bool:
    """Tell whether ``fn`` listens to ``target`` at all of these moments."""
    place, target = _meant(target, using)
    return place.registry.contains(target, identifier, fn)


def subscribe(
    *channels: str, using: Optional[str] = None, **options: Any
) -> Callable[[Function], Function]:
    """Call the decorated function with each message of these channels: see ``Hub.subscribe``."""

    def register(fn: Function) -> Function:
        database(using).registry.add(Subscription(fn, channels, **options), (MOMENT,))
        return fn

    return register


def group(name: str, using: Optional[str] = None, **options: Any) -> None:
    """Set how a group works, before hubs start: see ``Hub.group``."""
    database(using).tell(lambda one: one.group(name, **options))


def watch(target: Any, *moments: str, using: Optional[str] = None, **options: Any) -> None:
    """Set the capture options of a model's table, before hubs start: see ``Hub.watch``."""
    place, target = _meant(target, using)
    place.tell(lambda one: one.watch(target, *moments, **options))


def around(factory: Factory, using: Optional[str] = None) -> Factory:
    """Call each listener within a context manager: see ``Hub.around``."""
    database(using).tell(lambda one: one.around(factory))
    return factory


def _meant(target: Any, using: Optional[str]) -> Tuple[Database, Any]:
    """Return the database of a target, and the target as a registry takes it."""
    found: Optional[Target] = target_of(target, using)
    if found is None:
        return database(using), target
    model: Any = found.model
    return database(model.alias), found
