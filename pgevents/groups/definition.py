"""How a group is defined: what all of its processes have to agree about."""

import json
from typing import List


def missing(mine: str, other: str) -> List[str]:
    """Return what another definition has, and this one has not: "public.orders (insert)"."""
    ours, theirs = (json.loads(definition)["topics"] for definition in (mine, other))
    return [
        f"{topic} ({operation})"
        for topic, operations in theirs.items()
        for operation in operations
        if operation not in ours.get(topic, ())
    ]


def difference(mine: str, other: str) -> str:
    """Return in words how another definition of a group differs."""
    more, less = missing(mine, other), missing(other, mine)
    ordered = json.loads(other)["ordered"]
    return ", ".join(
        [f"it has {one}" for one in more]
        + [f"it has no {one}" for one in less]
        + ([f"ordered={ordered}"] if ordered != json.loads(mine)["ordered"] else [])
    )
