"""Our SQL files: the schema put in, and what several functions share written once.

    --- block look: table, columns        begins a block; its parameters
    SELECT <columns> FROM <table>;
    --- end

    --- put look: orders, id              SELECT id FROM orders;

A line with three dashes is for this module, and does not appear in the result. A block may
put in others, which stand above it.
"""

import pkgutil
import re
from typing import Dict, List, Match, Optional, Tuple

_BLOCK = re.compile(r"^--- block (\w+)(?:: ([^\n]+))?\n(.*?)^--- end\n\n?", re.M | re.S)
_PUT = re.compile(r"^ *--- put (\w+)(?:: (.+))?\n", re.M)
_REMARK = re.compile(r"^---.*\n\n?", re.M)


def script(name: str, schema: str) -> str:
    """Return one of the SQL files of this folder, for a log's schema, which is quoted."""
    data = pkgutil.get_data(__package__, name)
    assert data is not None
    return rendered(data.decode("utf-8").replace("\r\n", "\n")).replace(':"schema"', schema)


def rendered(text: str) -> str:
    """Return an SQL file with its blocks put in."""
    blocks: Dict[str, Tuple[List[str], str]] = {}

    def put(found: Match[str]) -> str:
        parameters, body = blocks[found[1]]
        values = _names(found[2])
        assert len(values) == len(parameters), f"{found[0].strip()!r}: give {parameters}"
        for parameter, value in zip(parameters, values):
            body = body.replace(f"<{parameter}>", value)
        return body

    def keep(found: Match[str]) -> str:
        blocks[found[1]] = _names(found[2]), _PUT.sub(put, found[3])
        return ""

    return _REMARK.sub("", _PUT.sub(put, _BLOCK.sub(keep, text)))


def _names(text: Optional[str]) -> List[str]:
    return text.split(", ") if text else []
