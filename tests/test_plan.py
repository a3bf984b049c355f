"""What is to be done: what is wanted and what is there, compared without a database."""

import pytest

from pgevents import Denied
from pgevents.capture import plan
from pgevents.database.relation import Relation
from pgevents.database.spec import NOTHING, Spec
from pgevents.database.there import Found, There
from pgevents.postgres import triggers as postgres
from pgevents.postgres.catalog import Partition
from pgevents.sqlite import triggers as sqlite
from pgevents.tables import Tables

KINDS = {
    "sqlite": lambda: There(sqlite.Triggers(Tables("sqlite"))),
    "postgres": lambda: There(postgres.Triggers("pgevents")),
}


@pytest.fixture(params=KINDS)
def there(request):
    """A database with two tables, orders and items, and our log, where nothing is captured."""
    there = KINDS[request.param]()
    for name in ("orders", "items"):
        table = relation(name)
        there.tables[table.topic] = table
    return there


def relation(name, columns=("id", "item"), **more):
    plain = {"risky": False, "by_row": False, "partitions": {}}
    return Relation("main", name, columns, ("id",), **{**plain, **more})


def capture(there, name="orders", spec=None, service="default"):
    """Let it be as an install for a service would have left it."""
    table = there.tables["main." + name]
    specs = [(table, spec or Spec())]
    for operation in plan.compare(there, specs, service):
        carry_out(there, operation)


def carry_out(there, operation):
    if isinstance(operation, plan.Record):
        topic = operation.relation.topic
        there.specs.setdefault(topic, {})[operation.service] = operation.total
    elif isinstance(operation, plan.CreateView):
        there.views[operation.view.name] = operation.view.sql
    elif isinstance(operation, (plan.CreateTrigger, plan.ReplaceTrigger)):
        triggers = there.triggers.setdefault(operation.relation.place, {})
        triggers[operation.trigger.name] = Found(operation.trigger.mark)
    elif isinstance(operation, plan.DropTrigger):
        del there.triggers[operation.relation.place][operation.name]
    elif isinstance(operation, plan.NoteTruncation):
        there.notes[operation.note.partition, operation.note.name] = operation.note
    else:
        raise AssertionError(operation)


def kinds(operations):
    return [type(operation).__name__ for operation in operations]


def wanted(there, *specs, name="orders"):
    return [(there.tables["main." + name], spec) for spec in specs or (Spec(),)]


def test_a_table_that_nobody_captures_gets_its_row_first_and_then_its_triggers(there):
    operations = plan.compare(there, wanted(there, Spec(["insert", "delete"])), "default")

    assert kinds(operations)[0] == "Record"
    assert kinds(operations)[-2:] == ["CreateTrigger", "CreateTrigger"]
    assert plan.missing(there, wanted(there)) == [
        "main.orders is not watched for insert, update, delete, truncate"
    ]


def test_what_is_captured_as_it_is_wanted_needs_nothing(there):
    capture(there)

    assert plan.compare(there, wanted(there), "default") == []
    assert plan.compare(there, wanted(there, Spec(["insert"])), "default") == []
    assert plan.missing(there, wanted(there)) == plan.unheard(there, wanted(there)) == []
    assert [(row["table"], row["state"]) for row in plan.installed(there)] == [
        ("main.orders", "ok")
    ]


def test_the_row_of_a_service_only_grows(there):
    capture(there, spec=Spec(["insert"]))

    record, *rest = plan.compare(there, wanted(there, Spec(["delete"])), "default")

    assert record.total.operations == ("insert", "delete")
    assert "DropTrigger" not in kinds(rest)


def test_what_another_service_wants_stays_captured(there):
    capture(there, spec=Spec(["insert"]), service="one")
    capture(there, spec=Spec(["insert", "delete"]), service="two")
    table = there.tables["main.orders"]

    left = plan.settle(there, table, {"one": Spec(["insert"])})
    none = plan.settle(there, table, {})

    assert kinds(left) == ["DropTrigger"]
    assert kinds(none) == ["DropTrigger", "DropTrigger"]


def test_without_a_service_it_is_enough_that_somebody_has_it_captured(there):
    capture(there, service="other")

    assert plan.missing(there, wanted(there)) == []
    assert plan.missing(there, wanted(there), "default") != []


@pytest.mark.parametrize(
    "found, operation",
    [
        (None, "CreateTrigger"),
        (Found("another"), "ReplaceTrigger"),
        (Found("the same", "D"), "EnableTrigger"),
        (Found("the same", "A"), None),
    ],
)
def test_a_trigger_is_made_replaced_or_enabled_as_it_is_found(there, found, operation):
    capture(there, spec=Spec(["insert"]))
    triggers = there.triggers["main", "orders"]
    ((name, same),) = triggers.items()
    triggers.clear()
    if found is not None:
        triggers[name] = found._replace(mark=same.mark) if found.mark == "the same" else found

    operations = plan.compare(there, wanted(there, Spec(["insert"])), "default")

    assert kinds(operations) == ([operation] if operation else [])
    assert len(plan.unheard(there, wanted(there, Spec(["insert"])))) == len(operations)
    assert plan.installed(there)[0]["state"] == ("outdated" if operation else "ok")


def test_a_trigger_that_fires_always_is_to_do_so_when_it_was_replaced(there):
    capture(there, spec=Spec(["insert"]))
    triggers = there.triggers["main", "orders"]
    triggers.update({name: Found("another", "A") for name in triggers})

    (operation,) = plan.compare(there, wanted(there, Spec(["insert"])), "default")

    assert operation.always


def test_without_a_log_that_is_all_that_is_missing(there):
    there.log = "the log is not installed"

    assert kinds(plan.compare(there, wanted(there), "default"))[:2] == ["InstallLog", "Record"]
    assert plan.missing(there, wanted(there)) == ["the log is not installed"]


def test_triggers_that_may_not_write_are_denied_whatever_else_there_is(there):
    capture(there)
    there.denied = ["each write fails"]

    assert plan.missing(there, wanted(there)) == ["each write fails"]
    assert plan.installed(there)[0]["state"] == "denied"


def test_a_log_whose_rows_are_hidden_is_refused(there):
    there.hidden = Denied("hidden")

    for question in (plan.compare, plan.missing, plan.unheard):
        with pytest.raises(Denied):
            question(there, wanted(there))


def test_a_table_that_somebody_alters_is_left_alone(there):
    capture(there)
    there.triggers.clear()
    there.altered = {"main.orders"}

    assert kinds(plan.compare(there, wanted(there), "default")) == ["AwaitMigration"]
    assert "is being altered" in plan.missing(there, wanted(there))[0]


def test_what_was_uninstalled_stays_so_unless_somebody_asks(there):
    there.specs["main.orders"] = {"default": NOTHING}

    assert plan.compare(there, wanted(there), "default", asked=False) == []
    assert "Record" in kinds(plan.compare(there, wanted(there), "default"))
    assert plan.installed(there) == []


def test_leftovers_are_what_belongs_to_tables_that_are_gone_or_not_captured(there):
    capture(there, "orders")
    capture(there, "items")
    there.specs.pop("main.items")
    there.specs["main.dropped"] = {"default": Spec()}
    there.specs["main.uninstalled"] = {"default": NOTHING}

    operations = plan.leftovers(there)

    assert [one.topic for one in operations if isinstance(one, plan.Forget)] == ["main.dropped"]
    dropped = [one for one in operations if isinstance(one, plan.DropTrigger)]
    assert {one.relation.name for one in dropped} == {"items"}
    assert len(dropped) == len(there.triggers["main", "items"])
    assert "DropView" not in kinds(operations)


def test_a_view_goes_with_the_last_trigger_that_writes_to_it():
    there = KINDS["sqlite"]()
    there.tables["main.orders"] = relation("orders")
    capture(there)
    there.triggers.clear()

    assert kinds(plan.leftovers(there)) == ["DropView"]


def test_columns_that_triggers_lack_are_named():
    there = KINDS["sqlite"]()
    there.tables["main.orders"] = relation("orders")
    capture(there)
    there.tables["main.orders"] = relation("orders", ("id", "item", "price"))

    (sentence,) = plan.lacking(there, wanted(there))

    assert sentence.endswith("what was written since lacks price")


@pytest.fixture
def partitioned():
    there = KINDS["postgres"]()
    parts = {7: Partition("main", "low", "r", False), 8: Partition("main", "far", "f", False)}
    there.tables["main.orders"] = relation("orders", by_row=True, partitions=parts)
    return there


def test_each_partition_that_can_be_truncated_notes_it(partitioned):
    notes = [
        one.note
        for one in plan.compare(partitioned, wanted(partitioned), "default")
        if isinstance(one, plan.NoteTruncation)
    ]
    capture(partitioned)
    complete = plan.missing(partitioned, wanted(partitioned))
    partitioned.notes.clear()

    assert [note.table for note in notes] == ['"main"."low"']
    assert complete == []
    assert plan.missing(partitioned, wanted(partitioned)) == [
        "nobody would notice that main.low, a partition of main.orders, is truncated"
    ]
    assert plan.unheard(partitioned, wanted(partitioned)) == []


def test_the_note_of_a_partition_that_was_detached_is_left_over(partitioned):
    capture(partitioned)
    partitioned.tables["main.orders"].more["partitions"] = {}

    assert kinds(plan.leftovers(partitioned)) == ["DropNote"]


def test_triggers_for_each_row_do_where_a_table_was_detached():
    there = KINDS["postgres"]()
    there.tables["main.orders"] = relation("orders", by_row=True)
    capture(there)
    there.tables["main.orders"] = relation("orders")

    assert plan.missing(there, wanted(there)) != []
    assert plan.unheard(there, wanted(there)) == []
