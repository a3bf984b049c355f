"""Whatever the names and the values, what is written is what is told."""

import datetime
import functools
import itertools
import json
import uuid

import psycopg2.extras
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from pgevents import Event, Hub, Registry
from pgevents.database.spec import Spec
from pgevents.events.tagged import from_tagged, to_tagged
from pgevents.listening.target import OPERATIONS, Target, as_target
from pgevents.postgres.snapshot import Snapshot

bounded = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)

# PostgreSQL has neither NUL nor surrogates in its text.
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
names = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=15
)


def unfolded(times):
    """Without ``fold``, which no database and no ISO 8601 has."""
    return times.map(lambda value: value.replace(fold=0))


offsets = st.integers(-15 * 60, 15 * 60).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)
wholes = st.integers(-(2**63), 2**63 - 1)
documents = st.recursive(
    # jsonb makes whole numbers of large floats.
    st.none() | st.booleans() | wholes | st.floats(-1e6, 1e6) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)

POSTGRES = {
    "bigint": wholes,
    "float8": st.floats(allow_nan=False),
    "text": texts,
    "bytea": st.binary(max_size=50),
    "boolean": st.booleans(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False).filter(
        lambda value: abs(value.adjusted()) < 500
    ),
    "timestamptz": unfolded(
        st.datetimes(datetime.datetime(2, 1, 1), datetime.datetime(9998, 1, 1), timezones=offsets)
    ),
    "timestamp": unfolded(st.datetimes()),
    "date": st.dates(),
    "time": unfolded(st.times()),
    "uuid": st.uuids(),
    "interval": st.timedeltas(datetime.timedelta(days=-(10**6)), datetime.timedelta(days=10**6)),
    "json": documents,
    "jsonb": documents,
    "bigint[]": st.lists(st.none() | wholes, max_size=4),
    "text[]": st.lists(st.none() | texts, max_size=4),
    "timestamp[]": st.lists(unfolded(st.datetimes()), max_size=3),
}
SQLITE = {
    "INTEGER": wholes,
    "REAL": st.floats(allow_nan=False),
    "TEXT": texts,
    "BLOB": st.binary(max_size=50),
    "": st.one_of(
        wholes,
        st.floats(allow_nan=False),
        st.binary(max_size=50),
        st.text(st.characters(blacklist_categories=["Cs"])),
    ),
}


class Line:
    """A hub that is polled, and a connection that writes."""

    def __init__(self, database):
        self.events = []
        self.database = database
        self.registry = Registry()
        self.hub = Hub(database.url, self.registry)
        self.connection = database.connect()
        self.mark = "?" if database.kind == "sqlite" else "%s"

    def listen(self, target):
        self.registry.listen(target, "after_change", self.events.append)
        self.hub.install()
        self.hub.poll()

    def write(self, sql, params=()):
        cursor = self.connection.cursor()
        try:
            cursor.execute(sql, params)
            self.connection.commit()
        finally:
            self.connection.rollback()

    def told(self):
        self.hub.poll()
        told = self.events[:]
        del self.events[:]
        for event in told:
            copy = Event.from_json(event.to_json())
            assert copy == event
            assert repr((copy.old, copy.new, copy.key)) == repr((event.old, event.new, event.key))
        return told


@pytest.fixture
def line(database):
    line = Line(database)
    yield line
    line.hub.stop()


def adapted(kind, value):
    """What the driver takes for it."""
    if kind in ("json", "jsonb"):
        return psycopg2.extras.Json(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def test_any_values_arrive(line):
    types = SQLITE if line.database.kind == "sqlite" else POSTGRES
    kinds = list(types)
    line.database.execute(
        "CREATE TABLE t (id integer PRIMARY KEY, {})".format(
            ", ".join("c{} {}".format(n, kind) for n, kind in enumerate(kinds))
        )
    )
    line.listen("t")
    numbers = itertools.count()
    marks = ["{}::{}".format(line.mark, k) if k in POSTGRES else line.mark for k in kinds]
    insert = "INSERT INTO t VALUES ({}, {})".format(line.mark, ", ".join(marks))

    @bounded(max_examples=120)
    @given(st.tuples(*[st.none() | types[kind] for kind in kinds]))
    def check(values):
        number = next(numbers)
        line.write(
            insert,
            [number] + [None if v is None else adapted(kind, v) for kind, v in zip(kinds, values)],
        )
        (event,) = line.told()
        assert event.key == number
        assert [event.new["c{}".format(n)] for n in range(len(kinds))] == list(values)

    check()


def test_any_names_will_do(database):
    def quoted(name):
        return '"{}"'.format(name.replace('"', '""'))

    numbers = itertools.count()

    @bounded(max_examples=15)
    @given(names, st.lists(names, min_size=1, max_size=4, unique_by=lambda name: name.lower()))
    def check(table, columns):
        table += str(next(numbers))
        assume(not table.lower().startswith(("sqlite_", "pgevents_")))
        kinds = ", ".join(quoted(name) + " int" for name in columns)
        database.execute(
            "CREATE TABLE {} ({}, PRIMARY KEY ({}))".format(
                quoted(table), kinds, quoted(columns[0])
            )
        )
        line = Line(database)
        line.listen(quoted(table))
        line.write(
            "INSERT INTO {} VALUES ({})".format(
                quoted(table), ", ".join(map(str, range(len(columns))))
            )
        )
        (event,) = line.told()
        line.hub.stop()
        assert (event.table, event.key) == (table, 0)
        assert event.new == {name: n for n, name in enumerate(columns)}

    check()


@bounded(max_examples=300)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.decimals(allow_nan=False)
        | unfolded(st.datetimes(timezones=st.none() | offsets))
        | st.dates()
        | unfolded(st.times(timezones=st.none() | offsets))
        | st.timedeltas()
        | st.uuids()
        | st.binary()
        | st.sampled_from(OPERATIONS),
        lambda inner: st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["$date", "$object", "$float", "a"]), inner),
        max_leaves=10,
    )
)
def test_tagged_values_are_given_back(value):
    back = from_tagged(json.loads(json.dumps(to_tagged(value))))

    assert back == value and repr(back) == repr(value)


xids = st.integers(1, 12)
snapshots = st.tuples(xids, st.sets(xids)).map(
    lambda pair: Snapshot.parse(
        "{}:{}:{}".format(
            min([x for x in pair[1] if x < pair[0]], default=pair[0]),
            pair[0],
            ",".join(str(x) for x in sorted(pair[1]) if x < pair[0]),
        )
    )
)


@bounded(max_examples=300)
@given(snapshots, snapshots, st.integers(0, 5))
def test_snapshots_compare_as_the_sets_of_what_they_see(one, other, more):
    seen, others = ({x for x in range(20) if s.sees(x)} for s in (one, other))

    assert seen == set(range(one.xmax)) - one.in_progress
    assert one.covers(other) or not seen >= others or one.xmax < other.xmax
    assert not one.covers(other) or seen >= others
    xid = one.xmax + more
    assert {x for x in range(20) if one.and_also(xid).sees(x)} == seen | {xid}
    assert one.and_also(xid).covers(one)


columns = st.sampled_from("abcd")
specs = st.builds(
    Spec,
    st.sets(st.sampled_from(OPERATIONS)),
    st.none() | st.sets(columns),
    st.sets(columns),
    st.none() | st.booleans(),
    st.booleans(),
)


@bounded(max_examples=500)
@given(specs, specs, specs)
def test_the_union_of_specs_serves_each_in_any_order(one, two, three):
    assert one | two == two | one
    assert (one | two) | three == one | (two | three)
    assert one | one == one and (one | two) | two == one | two
    assert Spec(**json.loads(json.dumps((one | two).as_dict()))) == one | two
    union = one | two
    for spec in (one, two):
        assert union.serves(spec, "abcde") and union.settled().serves(spec, "abcde")
        assert set(union.of("abcde")) >= spec.insists_on("abcde")
    if not union.open:
        assert union.insists_on("abcde") == one.insists_on("abcde") | two.insists_on("abcde")
    assert union.settled().insists_on("abcde") == set(union.of("abcde"))


@bounded(max_examples=300)
@given(specs)
def test_a_spec_without_an_opinion_yields_to_one_with_an_opinion(spec):
    silent = Spec(spec.operations, open=True, old=None)

    assert silent | spec == spec


@bounded(max_examples=300)
@given(st.none() | names, names)
def test_a_targets_key_names_it(schema, name):
    target = as_target(Target(schema, name).key)

    assert (target.schema, target.name) == (schema, name)
    assert target.key == Target(schema, name).key
