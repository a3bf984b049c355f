"""For the tests of applications: a listener that remembers, and a hub without a database.

For example:

    def test_an_order_that_is_paid_is_shipped():
        FakeHub().update("orders", {"id": 7, "status": "new"}, {"status": "paid"})

        assert shipped == [7]

    def test_what_sql_writes_is_received(url):
        received = Recorder()
        with Hub(url, Registry()) as hub:
            hub.listen("orders", "after_insert", received)
            write_with_sql()
            assert received.next().new["item"] == "tea"

In reading order; each imports only what stands above it:

    recorder       a listener that remembers; waiting for what other threads do
    fakehub        a hub without a database
    fakestreams    streams without a database; given/when/then
"""

from .fakehub import FakeHub
from .fakestreams import FakeStreams, Scenario
from .recorder import Recorder, wait_until

__all__ = ["FakeHub", "FakeStreams", "Recorder", "Scenario", "wait_until"]
