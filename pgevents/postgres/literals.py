"""PostgreSQL's text of values that are made of others: arrays, composite values, hstore.

array       {a,"b c",NULL,{nested}}     [0:1]={a,b}
composite   (1,,"a ""b"", c","")        nothing between commas is NULL
hstore      "a"=>"1", "b"=>NULL
"""

import re
from typing import Any, Dict, List, Optional

from psycopg2.extras import HstoreAdapter

_IN_ARRAY = r'"((?:[^"\\]|\\.)*)"|([{{}}])|([^{{}}"{0}]+)|{0}'
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_FIELD = re.compile(r'(?:"((?:[^"\\]|""|\\.)*)"|([^,"]*))(?:,|$)', re.DOTALL)
_DOUBLED = re.compile(r'["\\](.)', re.DOTALL)


def array(text: str, delimiter: str = ",") -> List[Any]:
    """Return the elements, a text or None each, in nested lists. Raises ValueError."""
    outermost: List[Any] = []
    open_lists = [outermost]
    body = text[text.index("=") + 1 :] if text.startswith("[") else text
    for found in re.finditer(_IN_ARRAY.format(re.escape(delimiter)), body, re.DOTALL):
        quoted, brace, plain = found.groups()
        if brace == "{":
            inner: List[Any] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif brace == "}":
            open_lists.pop()
        elif quoted is not None:
            open_lists[-1].append(_ESCAPED.sub(r"\1", quoted))
        elif plain is not None:
            open_lists[-1].append(None if plain == "NULL" else plain)
    if len(open_lists) != 1 or len(outermost) != 1 or not isinstance(outermost[0], list):
        raise ValueError("no array of PostgreSQL")
    return outermost[0]


def composite(text: str) -> List[Optional[str]]:
    """Return the fields, a text or None each. Raises ValueError."""
    if text[:1] != "(" or text[-1:] != ")":
        raise ValueError("no composite value of PostgreSQL")
    body, place = text[1:-1], 0
    fields: List[Optional[str]] = []
    while True:
        found = _FIELD.match(body, place)
        if found is None:
            raise ValueError("no composite value of PostgreSQL")
        quoted, plain = found.groups()
        fields.append((plain or None) if quoted is None else _DOUBLED.sub(r"\1", quoted))
        place = found.end()
        if not found.group().endswith(","):
            return fields


def hstore(text: str) -> Dict[str, Optional[str]]:
    """Return the pairs. Raises psycopg2's InterfaceError."""
    return dict(HstoreAdapter.parse(text, None))  # type: ignore[no-untyped-call]
