"""Names of streams, categories and tenants, checked before the database is asked."""

import uuid
from typing import Any, Optional

from .. import checks
from ..database.store import StreamKey
from ..errors import UsageError

NO_STREAM = 0  # the version of a stream that nothing was ever appended to
LAST_VERSION = 2**31 - 1  # that a stream can have
NAME_BYTES = 800  # of the three names in UTF-8 together: an index of the database holds them


def stream_key(stream: Any, category: Any, tenant: Optional[str]) -> StreamKey:
    """Return what names a stream; its id is a text or a UUID. Raises UsageError."""
    name = str(stream) if isinstance(stream, uuid.UUID) else checks.name("stream", stream)
    key = StreamKey(tenant_name(tenant) or "", category_name(category) or "", name)
    if sum(len(part.encode()) for part in key) > NAME_BYTES:
        raise UsageError(
            f"stream={name!r:.60}: tenant, category and stream have {NAME_BYTES} bytes at the most"
        )
    return key


def category_name(given: Any) -> Optional[str]:
    """Return the name of a category; None for none. Raises UsageError."""
    return given if given is None or given == "" else checks.name("category", given)


def tenant_name(given: Any) -> Optional[str]:
    """Return the name of a tenant; None for none. Raises UsageError."""
    return None if given is None else checks.name("tenant", given)


def version(what: str, given: Any, least: int = 0) -> int:
    """Return the version of a stream. Raises UsageError."""
    if checks.whole(what, given, least) > LAST_VERSION:
        raise UsageError(f"{what}={given!r}: give a version, {LAST_VERSION} at the most")
    return int(given)


def label(key: StreamKey) -> str:
    """Return a stream's name for messages: '17' of 'orders', tenant 'acme'."""
    of = f" of {key.category!r}" if key.category else ""
    tenant = f", tenant {key.tenant!r}," if key.tenant else ""
    return f"{key.name!r}{of}{tenant}"
