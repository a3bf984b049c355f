"""How one hub works: what its caller gave, checked."""

from typing import Any, Optional

from . import checks
from .errors import UsageError
from .payloads.text import Codec
from .retry import Retry

RETENTION = 86400.0  # seconds that a log row is kept: a day
GROUP_RETENTION = 14 * 86400.0  # seconds; a group that is down for longer gets a ``gap``
DEDUPE_WINDOW = 86400.0  # seconds in which an id that a publisher gave is published once
BEHIND_AFTER = 10.0  # seconds that the queue may be full before ``fallen_behind``


class Settings:
    """The options of one ``Hub``, where they are explained. Raises UsageError."""

    def __init__(
        self,
        *,
        service: str,
        install: bool,
        workers: int,
        queue_size: int,
        retention: float,
        group_retention: float,
        dead_letter_retention: Optional[float],
        retry: Optional[Retry],
        behind_after: float,
        encoder: Optional[Codec],
        decoder: Optional[Codec],
        max_payload: Optional[int],
        dedupe_window: float,
    ) -> None:
        require("retry", retry, Retry)
        self.service = checks.name("service", service)
        self.install = install
        self.workers = checks.whole("workers", workers)
        self.queue_size = checks.whole("queue_size", queue_size)
        self.retention = checks.seconds("retention", retention, 1.0)
        group_retention = checks.seconds("group_retention", group_retention)
        self.group_retention = max(self.retention, group_retention)
        if dead_letter_retention is not None:
            checks.seconds("dead_letter_retention", dead_letter_retention, 1.0)
        self.dead_letter_retention = dead_letter_retention
        self.retry = retry or Retry()
        for name, codec in (("encoder", encoder), ("decoder", decoder)):
            if codec is not None and not callable(codec):
                raise UsageError(f"{name}={codec!r}: give a function")
        if max_payload is not None:
            checks.whole("max_payload", max_payload)
        self.encoder, self.decoder = encoder, decoder
        self.max_payload = max_payload
        self.dedupe_window = checks.seconds("dedupe_window", dedupe_window, 1.0)
        self.behind_after = checks.seconds("behind_after", behind_after)


def require(name: str, value: Any, kind: type) -> None:
    """Raise UsageError for an option that is neither None nor of this class."""
    if value is not None and not isinstance(value, kind):
        raise UsageError(f"{name}={value!r}: give a {kind.__name__}")
