"""The setting PGEVENTS, checked: what an application says once about all of its hubs."""

from typing import Any, Dict, List

from django.conf import settings
from django.utils.module_loading import import_string

from ...errors import UsageError

#: What may stand in PGEVENTS and is given to each Hub, where it is explained.
HUB_OPTIONS = (
    "SCHEMA",
    "SERVICE",
    "INSTALL",
    "WORKERS",
    "QUEUE_SIZE",
    "RETENTION",
    "GROUP_RETENTION",
    "DEAD_LETTER_RETENTION",
    "RETRY",
    "BELL",
    "POLL_INTERVAL",
    "BEHIND_AFTER",
    "ENCODER",
    "DECODER",
    "MAX_PAYLOAD",
)

#: Functions that may be named by a dotted path: settings cannot import what imports settings.
_DOTTED = ("ENCODER", "DECODER")

#: When hubs start by themselves: with the first request that is no test's, or never.
STARTS = ("serving", "never")

_DEFAULTS: Dict[str, Any] = {
    "DATABASES": ["default"],
    "EVENTS_MODULE": "events",
    "START": "serving",
}


class Config:
    """PGEVENTS as it is now. Raises UsageError, which names what is wrong and the choices.

    ``databases``: aliases of DATABASES that have a hub. ``events_module``: the module of each app
    that is imported for its listeners. ``start``: one of STARTS. ``options``: those of each Hub.
    """

    def __init__(self) -> None:
        given = getattr(settings, "PGEVENTS", {})
        if not isinstance(given, dict):
            raise UsageError(f"PGEVENTS={given!r:.60}: give a dict")
        _refuse_unknown(given)
        found = {**_DEFAULTS, **given}
        self.databases = _aliases(found["DATABASES"])
        self.events_module = _text("EVENTS_MODULE", found["EVENTS_MODULE"])
        self.start = found["START"]
        if self.start not in STARTS:
            raise UsageError(f"PGEVENTS[\"START\"]={self.start!r}: give one of {', '.join(STARTS)}")
        self.options = {
            name.lower(): _option(name, given[name])
            for name in sorted(given, key=str)
            if name in HUB_OPTIONS
        }


def _refuse_unknown(given: Dict[Any, Any]) -> None:
    known = sorted([*_DEFAULTS, *HUB_OPTIONS])
    unknown = sorted(repr(name) for name in given if name not in known)
    if unknown:
        raise UsageError(f"PGEVENTS has no {', '.join(unknown)}: it may have {', '.join(known)}")


def _aliases(given: Any) -> List[str]:
    if isinstance(given, str) or not isinstance(given, (list, tuple)) or not given:
        raise UsageError(f'PGEVENTS["DATABASES"]={given!r:.60}: give a list of aliases')
    for alias in given:
        if alias not in settings.DATABASES:
            raise UsageError(
                f'PGEVENTS["DATABASES"] names {alias!r}: DATABASES has'
                f" {', '.join(sorted(settings.DATABASES))}"
            )
    return list(given)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"PGEVENTS[{name!r}]={value!r:.60}: give the name of a module")
    return value


def _option(name: str, value: Any) -> Any:
    if name in _DOTTED and isinstance(value, str):
        try:
            return import_string(value)
        except ImportError as error:
            raise UsageError(f"PGEVENTS[{name!r}]={value!r}: {error}") from error
    return value
