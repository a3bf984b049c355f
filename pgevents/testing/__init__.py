"""For the tests of applications: a listener that remembers, and a hub without a database.

def test_an_order_that_is_paid_is_shipped():
    FakeHub().update("orders", {"id": 7, "status": "new"}, {"status": "paid"})

    assert shipped == [7]

def test_what_sql_writes_is_heard(url):
    heard = Recorder()
    with Hub(url, Registry()) as hub:
        hub.listen("orders", "after_insert", heard)
        write_with_sql()
        assert heard.next().new["item"] == "tea"
"""

from .fakehub import FakeHub
from .recorder import Recorder, wait_until

__all__ = ["FakeHub", "Recorder", "wait_until"]
