"""Rows: how the text in the log becomes Python values."""

import datetime
import decimal
import json
import math
import re
from typing import Any, Callable, Dict, FrozenSet, Iterator, Mapping, NoReturn, Optional, Tuple

from .kinds import Kind
from .logrow import LogRow

#: Turns a value as it stands in the log into what the ORM would give.
Decoder = Callable[[Any], Any]


def _whole(text: str) -> Any:
    try:
        return int(text)
    except ValueError:  # more digits than Python makes an int of: sys.get_int_max_str_digits()
        return decimal.Decimal(text)


def _fraction(text: str) -> Any:
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:
        return text  # an exponent of nineteen digits


def _float(text: str) -> Any:
    value = float(text)
    return _fraction(text) if math.isinf(value) else value


#: The decoders are made once: json.loads() makes one for each call that has options.
_parse_decimal: Callable[[str], Any] = json.JSONDecoder(parse_float=decimal.Decimal).decode
_parse_any_decimal = json.JSONDecoder(parse_float=_fraction, parse_int=_whole).decode
_parse_any = json.JSONDecoder(parse_float=_float, parse_int=_whole).decode


def parse_exactly(text: str) -> Any:
    """Read JSON with fractions as Decimal, so that no digit is lost.

    A number too long for Python's int is a Decimal, one too large for a Decimal its text.
    """
    try:
        return _parse_decimal(text)
    except (ValueError, ArithmeticError):
        return _parse_any_decimal(text)


def parse_json(text: str) -> Any:
    """Read JSON as json.loads() does; what would be infinite there, or an error, is a Decimal."""
    return _parse_any(text)


class Row(Dict[str, Any]):
    """A row as it was: column name → value. It cannot be changed: all listeners see this one."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("an event's row cannot be changed: take a copy, dict(event.new)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> Any:
        return Row, (dict(self),)


class Shape:
    """What is known of a table when its rows are read from the log.

    ``key`` names the primary key's columns. ``decoders`` has one for each
    column whose value is not just what JSON gives. ``entity`` is the mapped
    class, if one is known, ``model`` what loads objects of another ORM.
    ``declared`` tells whether a class or a Table said
    the types, or the database alone; ``read_by(table)`` gives the decoders by
    the types of another Table, None where nobody can; ``kinds()`` says of
    which types the values are. ``stale`` is set when a
    row did not fit: the table was altered meanwhile. ``present()`` returns the
    columns that the table has now, as far as is known.

    ``mark`` is another one when the table was altered. ``precedes(row)`` tells
    whether a row of the log was written before the table got this shape; then it
    is read by the ``former`` one.
    """

    def __init__(
        self,
        schema: Optional[str],
        table: str,
        columns: Tuple[str, ...] = (),
        key: Tuple[str, ...] = (),
        decoders: Optional[Mapping[str, Decoder]] = None,
        parse: Callable[[str], Any] = parse_json,
        entity: Optional[type] = None,
        declared: bool = True,
        read_by: Optional[Callable[[Any], Mapping[str, Decoder]]] = None,
        kinds: Callable[[], Mapping[str, Kind]] = dict,
        mark: Any = None,
        precedes: Callable[[LogRow], bool] = lambda row: False,
        model: Any = None,
    ) -> None:
        self.schema = schema
        self.table = table
        self.mark = mark
        self.precedes = precedes
        self.former: Optional["Shape"] = None
        self.columns = frozenset(columns)
        self.key = key
        self.decoders = dict(decoders or {})
        self.parse = parse
        self.entity = entity
        self.model = model
        self.declared = declared
        self.read_by = read_by
        self.kinds = kinds
        self.stale = False
        self.present: Callable[[], FrozenSet[str]] = lambda: self.columns

    def decode(self, raw: Mapping[str, Any]) -> Row:
        """Return the row in Python's types.

        A value that does not fit its column's type, because the column was
        altered meanwhile or Python has no such value (the year 10000), is
        given as it stands in the log.
        """
        if not raw.keys() <= self.columns:
            self.stale = True
        row = dict(raw)
        for name, decode in self.decoders.items():
            value = row.get(name)
            if value is not None:
                try:
                    row[name] = decode(value)
                except Exception:
                    self.stale = True
        return Row(row)


def parse_by_column(text: str, parse: Callable[[str], Any]) -> Dict[str, Any]:
    """Read a row that ``parse`` cannot read: a value nested too deeply is given as its text."""
    row: Dict[str, Any] = {}
    for name, value in _members(text):
        try:
            row.update(parse(f"{{{name}:{value}}}"))
        except RecursionError:
            row[json.loads(name)] = value
    return row


#: A string, or what gives JSON its shape.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]', re.DOTALL)


def _members(text: str) -> Iterator[Tuple[str, str]]:
    """Give the name and the value of each member of a JSON object, as they stand there."""
    depth, name, start = 0, "", 0
    for token in _TOKEN.finditer(text):
        sign = token.group()
        if sign in "[{":
            depth += 1
        elif sign in ",}" and depth == 1 and name:
            yield name, text[start : token.start()].strip()
            name = ""
        elif sign in "]}":
            depth -= 1
        elif depth == 1 and not name:
            name = sign
        elif sign == ":" and depth == 1:
            start = token.end()


def in_json(value: Any) -> Any:
    """Undo ``parse_exactly`` inside a JSON document: fractions that fit are floats there."""
    if isinstance(value, decimal.Decimal):
        number = float(value)
        return value if math.isinf(number) else number
    if isinstance(value, list):
        return [in_json(item) for item in value]
    if isinstance(value, dict):
        return {name: in_json(item) for name, item in value.items()}
    return value


def chain(first: Optional[Decoder], then: Optional[Decoder]) -> Optional[Decoder]:
    """Return a decoder that does both, either, or None."""
    if first is None or then is None:
        return first or then
    return lambda value: then(first(value))


def parse_datetime(text: str) -> datetime.datetime:
    """Read an ISO 8601 date and time with any number of fractional digits.

    The zone, if any, is ``Z``, ``+hh``, ``+hh:mm`` or ``+hh:mm:ss``. Python
    before 3.11 reads only some of that itself. Raises ValueError.
    """
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return _parse_in_parts(text)


def _parse_in_parts(text: str) -> datetime.datetime:
    day, _, rest = text.replace("T", " ").partition(" ")
    clock, zone = rest, ""
    for sign in "Z+-":
        place = rest.find(sign)
        if place >= 0:
            clock, zone = rest[:place], rest[place:]
            break
    clock, dot, fraction = clock.partition(".")
    if dot:
        clock += "." + (fraction + "000000")[:6]
    if zone in ("Z", "z"):
        zone = "+00:00"
    elif len(zone) == 3:
        zone += ":00"
    return datetime.datetime.fromisoformat(f"{day} {clock}{zone}" if clock else day)


def parse_time(text: str) -> datetime.time:
    """Read an ISO 8601 time of day, as ``parse_datetime`` does. Raises ValueError."""
    return parse_datetime("2000-01-01 " + text).timetz()
