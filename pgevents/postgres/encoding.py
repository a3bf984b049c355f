"""Text of databases that are not in UTF-8, read so that no byte can make us deaf.

The server would convert it to UTF-8, but refuses a whole page of the log for
one byte that stands for no character; and a database in SQL_ASCII keeps any
bytes at all. So there the text comes as it is stored, and is decoded here:
what is no character becomes lone surrogates, as in Python's file names.
"""

import codecs
import contextlib
import functools
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import psycopg2.extensions
from psycopg2.extensions import BYTES, BYTESARRAY, QuotedString, register_type

#: The server's name → Python's. Not here is what Python does not know (EUC_TW), or
#: cannot be read by us at all (MULE_INTERNAL): there the server converts.
_CODECS = {
    "SQL_ASCII": "utf-8",  # whatever it is; UTF-8 differs most from anything else
    "EUC_CN": "gb2312",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "ISO_8859_5": "iso8859_5",
    "ISO_8859_6": "iso8859_6",
    "ISO_8859_7": "iso8859_7",
    "ISO_8859_8": "iso8859_8",
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
    **{
        f"LATIN{number}": f"iso8859_{part}"
        for number, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)
    },
    "WIN866": "cp866",
    "WIN874": "cp874",
    **{f"WIN{number}": f"cp{number}" for number in range(1250, 1259)},
}

#: Where PostgreSQL reads bytes as other characters than Python's codec, or alone knows
#: them: the first one's bytes, and the characters from there on.
_DIFFERENT = {
    "euc_jp": (
        (b"\xa1\xc1", "～∥"),
        (b"\xa1\xdd", "－"),
        (b"\xa1\xf1", "￠￡"),
        (b"\xa2\xcc", "￢"),
        (b"\xad\xa1", "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ"),
        (b"\xad\xc0", "㍉㌔㌢㍍㌘㌧㌃㌶㍑㍗㌍㌦㌣㌫㍊㌻㎜㎝㎞㎎㎏㏄㎡"),
        (b"\xad\xdf", "㍻〝〟№㏍℡㊤㊥㊦㊧㊨㈱㈲㈹㍾㍽㍼≒≡∫∮∑√⊥∠∟⊿∵∩∪"),
        (b"\x8f\xa2\xc3", "￤"),
        (b"\x8f\xf3\xf3", "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡ"),
        (
            b"\x8f\xf4\xa1",
            "ⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤\ufa0e咊坙\ufa0f\ufa10增寬峵嵓\ufa11德悅愠敎昻晥\ufa12\uf929栁"
            "\ufa13\ufa14橫櫢淸淲瀨\ufa15\ufa16甁皂皞\ufa17礰\ufa18\ufa19\ufa1a\ufa1b竧\ufa1c"
            "\ufa1d綠緖\ufa1e荢\ufa1f薰\ufa20\ufa21蠇\ufa22譿賴赶\ufa23\ufa24\ufa25郞\ufa26鄕"
            "\ufa27\ufa28閒\uf9dc\ufa29霻靍靑\ufa2a\ufa2b\ufa2c馞髙魲\ufa2d黑",
        ),
    ),
    "euc_jis_2004": (
        (b"\xa1\xb1", "‾"),
        (b"\xa1\xbd", "—"),
        (b"\xa1\xef", "¥"),
        (b"\xa2\xd6", "｟｠"),
    ),
    "euc_kr": ((b"\xa2\xe8", "㉾"), (b"\xa4\xd4", "\u3164")),
}

#: PostgreSQL's name of the one that needs none of this.
UTF8 = "UTF8"

_HANDLER = "pgevents.euc"


class Encoding:
    """One in which a server keeps text: from its bytes to Python's text, and back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._codec = _CODECS[name]
        self._errors = _HANDLER if name.startswith("EUC") else "surrogateescape"
        self._read, self._write = _others(self._codec)

    def decode(self, data: bytes) -> str:
        """Return the text; bytes that are no character as lone surrogates."""
        text = data.decode(self._codec, self._errors)
        return text.translate(self._read) if self._read else text

    def encode(self, text: str) -> bytes:
        """Undo ``decode``. Raises UnicodeEncodeError where the encoding lacks a character."""
        text = text.translate(self._write) if self._write else text
        return text.encode(self._codec, self._errors)


def encoding_of(connection: Any) -> Optional[Encoding]:
    """Return the encoding of a connection's database; None where the server is to convert."""
    # The server reports it when we connect; a pooler may not pass it on.
    name = connection.info.parameter_status("server_encoding")
    return None if name == UTF8 else _known(name)


@functools.lru_cache(maxsize=None)
def _known(name: Optional[str]) -> Optional[Encoding]:
    return Encoding(name) if name in _CODECS else None


class RawCursor(psycopg2.extensions.cursor):
    """A cursor for a connection on which the server converts nothing.

    What it takes and gives is text as ever. psycopg2 itself decodes strictly,
    by a table that all of the process shares; so it is given bytes.
    """

    def __init__(self, connection: Any, *args: Any, **options: Any) -> None:
        super().__init__(connection, *args, **options)
        encoding = encoding_of(connection)
        assert encoding is not None, "there the server converts"
        self._encoding = encoding
        for typecaster in (BYTES, BYTESARRAY):
            register_type(typecaster, self)

    def leave_as_text(self, *oids: int) -> None:
        """Give values of these types as the text they are, too."""
        # new_type() would decode, before it calls us.
        known: Any = self.string_types
        known.update(dict.fromkeys(oids, BYTES))

    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(self._sent(query), self._values(vars))

    def executemany(self, query: Any, vars_list: Any) -> None:
        super().executemany(self._sent(query), map(self._values, vars_list))

    def mogrify(self, query: Any, vars: Any = None) -> bytes:
        return super().mogrify(self._sent(query), self._values(vars))

    def fetchone(self) -> Any:
        return self._got(super().fetchone())

    def fetchmany(self, *args: Any, **options: Any) -> List[Any]:
        return [self._got(row) for row in super().fetchmany(*args, **options)]

    def fetchall(self) -> List[Any]:
        return [self._got(row) for row in super().fetchall()]

    def __next__(self) -> Any:
        return self._got(super().__next__())

    def _sent(self, query: Any) -> Any:
        return self._encoding.encode(query) if isinstance(query, str) else query

    def _values(self, values: Any) -> Any:
        if isinstance(values, Mapping):
            return {name: self._value(value) for name, value in values.items()}
        return values if values is None else tuple(map(self._value, values))

    def _value(self, value: Any) -> Any:
        if type(value) is str:
            return QuotedString(self._encoding.encode(value))
        return list(map(self._value, value)) if type(value) is list else value

    def _got(self, value: Any) -> Any:
        if type(value) is bytes:
            return self._encoding.decode(value)
        if type(value) in (tuple, list):
            return type(value)(map(self._got, value))
        return value


def _others(codec: str) -> Tuple[Dict[int, str], Dict[int, str]]:
    """Return which of a codec's characters the server reads as others, and the reverse."""
    read = {}
    for data, character in _different(codec).items():
        with contextlib.suppress(UnicodeDecodeError):
            read[ord(data.decode(codec))] = character
    return read, {ord(theirs): chr(ours) for ours, theirs in read.items()}


def _different(codec: str) -> Dict[bytes, str]:
    return {
        first[:-1] + bytes([first[-1] + place]): character
        for first, characters in _DIFFERENT.get(codec, ())
        for place, character in enumerate(characters)
    }


@functools.lru_cache(maxsize=None)
def _unknown(codec: str) -> Tuple[Dict[bytes, str], Dict[str, bytes]]:
    """Return the characters that the codec does not know, by their bytes, and the reverse."""
    found = _different(codec)
    # Some are there twice: the server writes the first.
    return found, {character: data for data, character in reversed(list(found.items()))}


def _handle(error: UnicodeError) -> Tuple[Union[str, bytes], int]:
    """Go on behind a whole character of EUC, as the server sees it, not behind a byte of it."""
    if isinstance(error, UnicodeDecodeError):
        start = error.start
        end = start + (3 if error.object[start] == 0x8F else 2)
        data = error.object[start:end]
        known = _unknown(error.encoding)[0].get(data)
        return known or data.decode("ascii", "surrogateescape"), start + len(data)
    if isinstance(error, UnicodeEncodeError):
        character = error.object[error.start]
        known_bytes = _unknown(error.encoding)[1].get(character)
        if known_bytes is None:
            try:
                known_bytes = character.encode("ascii", "surrogateescape")
            except UnicodeEncodeError:
                raise error from None
        return known_bytes, error.start + 1
    raise error


codecs.register_error(_HANDLER, _handle)
