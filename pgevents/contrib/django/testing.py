"""For the tests of a Django project: a mixin for ``TransactionTestCase``, whose hubs run."""

from typing import Any

from .config import Config
from .databases import hub, start, stop


class ListeningMixin:
    """Lets the hubs run during each test::

        class OrderTests(ListeningMixin, TransactionTestCase):
            def test_a_paid_order_is_shipped(self):
                Order.objects.update(status="paid")
                self.drain()
                self.assertEqual(shipped, [7])

    For a ``TestCase``, whose transaction is never committed, there is
    ``pgevents.testing.FakeHub``.
    """

    def setUp(self) -> None:
        """Start the hubs of the test's databases, and see that they stop before the teardown."""
        case: Any = super()
        case.setUp()
        test: Any = self
        test.addCleanup(stop)
        start(wait=True)

    def drain(self, timeout: float = 10.0) -> None:
        """Wait until all that is committed was handled; fail if that takes too long."""
        for alias in Config().databases:
            assert hub(alias).drain(timeout), f"the listeners of {alias!r} took over {timeout} s"
