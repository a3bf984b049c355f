"""The functions of a log: as functions.sql makes them, and as the database has them."""

import hashlib
import re
from typing import Any, Dict, List, NamedTuple

#: A function of functions.sql. They are all written in this one way.
_FUNCTION = re.compile(
    r"^CREATE OR REPLACE FUNCTION \S+?\.(?P<name>\w+)\((?P<arguments>.*?)\)"
    r" RETURNS (?P<result>\w+)\n"
    r"LANGUAGE (?P<language>\w+)(?P<marks>[A-Z ]*)\n(?P<settings>(?:SET [^\n]*\n)*)"
    r"AS \$\$(?P<body>.*?)\$\$;",
    re.M | re.S,
)

#: Line ends may be those of another system, where the printed SQL was saved in a file.
_FOUND = r"""
SELECT format('%%s(%%s)', proname, pg_get_function_identity_arguments(p.oid)),
       prorettype::regtype::text, lanname::text, provolatile::text, prosecdef, proconfig,
       encode(sha256(convert_to(replace(prosrc, E'\r', ''), getdatabaseencoding())), 'hex'),
       prokind = 'f' AND NOT proisstrict AND NOT proretset,
       pg_get_userbyid(proowner)::text, pg_get_userbyid(nspowner)::text
  FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
 WHERE nspname = %s AND proname = ANY (%s)
"""


class Made(NamedTuple):
    """What a function is made of."""

    result: str
    language: str
    volatility: str
    security_definer: bool
    settings: List[str]
    body: str  # its hash
    plain: bool  # neither strict nor a set, an aggregate or a procedure

    def differences(self, other: "Made") -> str:
        """Name what is not the same in another one."""
        names = {
            "result": "result",
            "language": "language",
            "volatility": "volatility",
            "security_definer": "SECURITY",
            "settings": "settings",
            "body": "body",
            "plain": "kind",
        }
        return ", ".join(names[name] for name in names if self.differs(other, name))

    def differs(self, other: "Made", name: str) -> bool:
        return bool(getattr(self, name) != getattr(other, name))


class Functions:
    """The functions of the log in one schema; ``sql`` is functions.sql for it."""

    def __init__(self, schema: str, sql: str) -> None:
        self.schema = schema
        self._made: Dict[str, Made] = {}
        self.names = []
        for found in _FUNCTION.finditer(sql.replace("\r\n", "\n")):
            self.names.append(found["name"])
            arguments = found["arguments"].replace(" DEFAULT NULL", "")
            self._made[f"{found['name']}({arguments})"] = _made(found)
        assert len(self.names) == sql.count(
            "CREATE OR REPLACE FUNCTION"
        ), "one is written otherwise"

    def changed(self, cursor: Any) -> List[str]:
        """Name the functions that are not as they were made, a sentence each.

        Somebody with their owner's rights may have changed them, or half a dump was restored.
        """
        found: Dict[str, Made] = {}
        owners: Dict[str, str] = {}
        keeper = ""
        cursor.execute(_FOUND, (self.schema, self.names))
        for name, result, language, volatility, definer, settings, body, plain, *who in cursor:
            settings = sorted(map(_setting, settings or []))
            found[name] = Made(result, language, volatility, definer, settings, body, plain)
            owners[name], keeper = who
        runner = owners.get("capture_insert()")
        changed = []
        for name, made in self._made.items():
            other = found.get(name)
            label = f"the function {self.schema}.{name}"
            if other is None:
                changed.append(f"{label} is not there")
            elif other != made:
                changed.append(
                    f"{label} is not as this release makes it: {made.differences(other)}"
                )
            elif owners[name] != runner and (made.security_definer or owners[name] != keeper):
                changed.append(f"{label} belongs to {owners[name]}, and capture_insert to {runner}")
        return changed


def _made(found: Any) -> Made:
    words = found["marks"].split()
    return Made(
        found["result"],
        found["language"],
        "s" if "STABLE" in words else "i" if "IMMUTABLE" in words else "v",
        "DEFINER" in words,
        sorted(_setting(line[4:]) for line in found["settings"].splitlines()),
        hashlib.sha256(found["body"].encode()).hexdigest(),
        True,
    )


def _setting(text: str) -> str:
    """Return "name=value" as the catalog has it, but for the letters of the name."""
    name, _, value = text.partition("=")
    return f"{name.strip().lower()}={value.strip().strip(chr(39))}"
