"""What one hub is made of, from its database to its groups; all but the threads."""

from typing import Any

from sqlalchemy import select

from .capture.chores import Chores
from .capture.upkeep import Upkeep
from .channels.expiry import Expiry
from .channels.outgoing import Writer
from .channels.publisher import Publisher
from .database.backend import Backend
from .delivery.around import Around
from .delivery.delivery import Delivery
from .delivery.entries import Entries
from .delivery.intake import Intake
from .delivery.strangers import Strangers
from .delivery.topics import Topics
from .groups.groups import Groups
from .listening.registry import Registry
from .metrics import Metrics
from .payloads.enrichers import Enrichers
from .reporter import Reporter
from .settings import Settings
from .streams.streams import StreamParts
from .streams.types import Types


class Parts:
    """The parts of ``hub``, joined. What they report, ``reporter`` sends as signals of the hub."""

    def __init__(self, hub: Any, backend: Backend, registry: Registry, settings: Settings) -> None:
        self.backend = backend
        self.registry = registry
        self.settings = settings
        self.metrics = Metrics()
        self.reporter = reporter = Reporter(hub, self.metrics)
        self.topics = topics = Topics(backend)
        self.around = Around()
        self.upkeep = Upkeep(
            backend, registry, topics, settings.service, settings.install, reporter
        )
        strangers = Strangers(backend.warnings)
        types, enrichers = Types(), Enrichers()
        expired = Expiry(self._database_time, self.metrics)
        self.entries = entries = Entries(topics, settings.decoder, types, expired)
        self.groups = Groups(backend, registry, topics, entries, reporter, strangers, self.around)
        self.intake = Intake(registry, topics, entries, strangers, self.metrics, reporter)
        self.publisher = Publisher(
            backend,
            Writer(settings.encoder, settings.max_payload, enrichers),
            lambda: self.groups.ledger().log,
        )
        self.streams = StreamParts(
            backend, registry, types, enrichers, lambda: self.groups.ledger().log
        )
        self.chores = Chores(backend, self.upkeep, self.groups, settings, self.publisher.forget_ids)

    def delivery(self) -> Delivery:
        """Return what calls the plain listeners, for one life of the hub."""
        return Delivery(
            self.registry,
            self.topics,
            self.settings.retry,
            self.metrics,
            self.reporter,
            self.around,
            expired=self.entries.expired,
        )

    def _database_time(self) -> float:
        log = self.groups.ledger().log
        with log.reading() as connection:
            return float(connection.execute(select(log.now)).scalar() or 0.0)

    def after_fork(self) -> None:
        """In a child: give up the parent's connections, threads, counts and warnings."""
        self.backend.after_fork_in_child()
        self.topics.after_fork()
        self.groups.after_fork()
        self.metrics.clear()
        self.backend.warnings.clear()
