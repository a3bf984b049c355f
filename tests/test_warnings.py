"""What works, but not as it should, is told until it works again."""

from pgevents import Hub, Registry
from pgevents.warnings import Warnings


def test_a_warning_is_told_until_it_is_taken_back(sqlite):
    hub = Hub(sqlite.url, Registry())

    before = hub.status()["warnings"]
    hub._backend.warnings.set("lock", "somebody holds a lock")
    meanwhile = hub.status()["warnings"]
    hub._backend.warnings.set("lock", None)

    assert (before, meanwhile) == ([], ["somebody holds a lock"])
    assert hub.status()["warnings"] == []


def test_a_warning_is_logged_when_it_is_new(caplog):
    warnings = Warnings()
    warnings.set("lock", "held for 5 s")
    warnings.set("lock", "held for 6 s")
    warnings.set("lock", None)
    warnings.set("lock", "held for 1 s")

    assert warnings.all() == ["held for 1 s"]
    assert [record.getMessage() for record in caplog.records] == ["held for 5 s", "held for 1 s"]


def test_a_hub_that_has_stopped_warns_of_nothing(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    with Hub(sqlite.url, Registry()) as hub:
        hub._backend.warnings.set("lock", "somebody holds a lock")

    assert hub.status()["warnings"] == []
