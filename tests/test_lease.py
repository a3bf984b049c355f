"""The states of a lease and of its rows, as its docstring draws them; without a database."""

import time

import pytest

from pgevents.errors import Unavailable
from pgevents.groups.failure import Failures
from pgevents.groups.lease import RENEWAL, Handled, Lease
from pgevents.groups.lost import Lost
from pgevents.groups.options import Options
from pgevents.groups.work import Work
from pgevents.retry import Backoff

NO = ValueError("no")
LETTER = 70  # the id of every dead letter


def row(position):
    return (position, None, "2026-01-01", "public.orders", "insert", None, '{"id": 1}', None)


class Book:
    """Writes down what it is asked to, where a ledger has a database."""

    def __init__(self, one_writer=False):
        self.one_writer = one_writer
        self.log = self
        self.pages = []  # settlements
        self.renewals = []  # positions of what is left, or None
        self.owner = "here"
        self.fault = None  # of the next settlement: after it was written, or before

    def settle(self, group, work, settlement, connection=None):
        if self.owner != work.owner:
            raise Lost()
        fault, self.fault = self.fault, None
        if fault != "before":
            self.pages.append(settlement)
        if fault:
            raise Unavailable("the answer is lost")
        return self.letters(settlement)

    def settled(self, group, work, settlement):
        return self.letters(settlement) if settlement in self.pages else None

    def letters(self, settlement):
        given_up = [one for one in settlement.failures if one.delay is None]
        return {failure.row[0]: LETTER for failure in given_up}

    def renew(self, group, work, seconds, left=None, attempt=1, current=lambda: True):
        self.renewals.append(left and [one[0] for one in left])
        return self.owner == work.owner


@pytest.fixture
def book():
    return Book()


def lease(book, *positions, attempt=1, again=False, named=True, **options):
    given = Options(**options)
    judge = Failures("g", given.max_attempts, Backoff(60, 60), True, None).of
    rows = [row(position) for position in positions or (1, 2, 3, 4)]
    work = Work(7, "here", rows, attempt, again, "behind", named)
    return Lease(book, "g", work, given, judge, time.monotonic())


def positions(rows):
    return [one[0] for one in rows]


def done(thing, *these):
    for position in these:
        thing.done(row(position))


# Rows


def test_rows_are_open_until_they_are_done_or_failed_in_any_order(book):
    held = lease(book, ordered=False)
    done(held, 3)
    held.failed(row(2), NO)

    assert positions(held.open) == [1, 4]


def test_only_the_first_row_has_had_attempts_before(book):
    held = lease(book, attempt=3, again=True)

    assert [held.attempt_of(one) for one in held.open] == [3, 1, 1, 1]
    assert not held.fresh
    assert all(held.redelivered(one) for one in held.open)


def test_what_a_lost_transaction_handled_may_have_been_seen_before(book):
    held = lease(book)
    assert held.fresh
    held.repeat(held.open[:2])

    assert not held.fresh
    assert [held.redelivered(one) for one in held.open] == [True, True, False, False]


# Settling


def test_what_is_done_is_settled_and_the_rest_is_kept(book):
    held = lease(book)
    done(held, 1, 3)

    settlement = held.settle()

    assert positions(settlement.rest) == positions(held.open) == [2, 4]
    assert (settlement.keep, settlement.done, held.over) == (True, 2, False)
    assert book.pages == [settlement]


def test_it_is_over_when_nothing_is_left(book):
    held = lease(book)
    done(held, 1, 2)
    held.settle()
    done(held, 4, 3)

    assert held.settle().done == 2
    assert held.over
    assert positions(held.open) == []


def test_a_release_leaves_the_rest_to_others_with_the_attempt_that_comes_next(book):
    held, other = lease(book, attempt=2, again=True), lease(book, attempt=2, again=True)
    done(other, 1)

    first, second = held.settle(release=True), other.settle(release=True)

    assert (first.keep, first.attempt, positions(first.rest)) == (False, 2, [1, 2, 3, 4])
    assert (second.keep, second.attempt, positions(second.rest)) == (False, 1, [2, 3, 4])
    assert held.over and other.over


def test_without_an_order_what_failed_waits_alone(book):
    held = lease(book, ordered=False)
    done(held, 1, 3)
    held.failed(row(2), NO)

    settlement = held.settle()

    assert [(one.row[0], one.attempt) for one in settlement.failures] == [(2, 1)]
    assert settlement.failures[0].delay > 0
    assert (positions(settlement.rest), settlement.together) == ([4], False)


def test_with_an_order_all_that_comes_after_what_failed_waits_with_it(book):
    held = lease(book)
    done(held, 1, 3)
    held.failed(row(2), NO)

    settlement = held.settle()

    assert positions(settlement.rest) == [3, 4]  # the third is handled again after the second
    assert (settlement.together, settlement.keep, settlement.done) == (True, False, 1)
    assert held.over


def test_with_an_order_what_failed_is_written_down_when_its_turn_comes(book):
    held = lease(book)
    held.failed(row(3), NO)
    assert positions(held.open) == [1, 2]
    done(held, 1)

    early = held.settle()
    done(held, 2)
    late = held.settle()

    assert (positions(early.rest), early.failures) == ([2, 3, 4], [])
    assert ([one.row[0] for one in late.failures], positions(late.rest)) == ([3], [4])


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "any"])
def test_what_is_given_up_becomes_a_dead_letter_and_the_rest_goes_on(book, ordered):
    held = lease(book, ordered=ordered, max_attempts=1)
    failure = held.failed(row(1), NO)
    done(held, 2)

    settlement = held.settle()

    assert failure.delay is None
    assert settlement.letters == {1: LETTER}
    assert (positions(settlement.rest), settlement.keep, settlement.done) == ([3, 4], True, 1)


def test_an_attempt_that_there_is_not_is_the_one_before_that_ended_its_process(book):
    held = lease(book, attempt=6, again=True, max_attempts=5)

    failure = held.failed(row(1), RuntimeError("given up"))

    assert (failure.attempt, failure.delay, failure.error) == (5, None, "given up")


# Transactions


def test_what_a_transaction_handles_counts_when_it_is_committed(book):
    held = lease(book)
    handled = Handled(held)
    done(handled, 1, 2)
    held.settle_in("connection", handled)
    assert held.in_doubt
    assert positions(held.open) == [1, 2, 3, 4]

    settlement = held.committed()

    assert not held.in_doubt
    assert settlement.done == 2
    assert positions(held.open) == [3, 4]


def test_what_a_refused_transaction_handled_is_open_and_what_it_blamed_has_failed(book):
    held = lease(book, ordered=False)
    handled = Handled(held)
    done(handled, 1)
    handled.failed(row(2), NO, " (the session ended)")
    held.settle_in("connection", handled)

    held.refused()
    held.blame(handled.failures.values())

    assert positions(held.open) == [1, 3, 4]
    assert held.settlement().failures[0].error == "ValueError('no') (the session ended)"


def test_no_renewal_tells_what_a_transaction_handles(book):
    held = lease(book)
    handled = Handled(held)
    done(handled, 1, 2)
    held.settle_in("connection", handled)

    held.renew()

    assert book.renewals == [None]


# Answers that are lost


@pytest.mark.parametrize("fault, written", [("after", 1), ("before", 1)])
def test_a_settlement_whose_answer_is_lost_is_written_once(book, fault, written):
    held = lease(book, max_attempts=1)
    done(held, 2)
    held.failed(row(1), NO)
    book.fault = fault
    with pytest.raises(Unavailable):
        held.settle()
    assert held.in_doubt

    settlement = held.settle()

    assert len(book.pages) == written
    assert (settlement.letters, settlement.done) == ({1: LETTER}, 1)
    assert positions(held.open) == [3, 4]
    assert not held.in_doubt


@pytest.mark.parametrize("fault, found", [("after", True), ("before", False)])
def test_whether_a_transaction_was_committed_is_looked_up(book, fault, found):
    held = lease(book)
    handled = Handled(held)
    done(handled, 1)
    book.fault = fault
    with pytest.raises(Unavailable):
        held.settle_in("connection", handled)

    assert (held.resolve() is not None) == found
    assert positions(held.open) == ([2, 3, 4] if found else [1, 2, 3, 4])


# Renewing


def test_a_renewal_writes_down_what_is_done_and_names_at_least_one(book):
    held = lease(book)
    held.renew()
    done(held, 1, 3)
    held.renew()
    done(held, 2, 4)
    held.renew()

    assert book.renewals == [None, [2, 4], [4]]


def test_a_renewal_names_what_failed_until_that_is_settled(book):
    held = lease(book, ordered=False)
    held.failed(row(1), NO)
    done(held, 2)

    held.renew()

    assert book.renewals == [[1, 3, 4]]


def test_a_lease_that_names_what_came_before_names_its_own_rows_with_the_first_renewal(book):
    held = lease(book, named=False)
    held.renew()
    done(held, 1)
    held.settle()
    held.renew()

    assert book.renewals == [[1, 2, 3, 4], None]


def test_it_is_renewed_twice_a_second_where_writes_are_in_nobodys_way(book):
    held = lease(book, lease=60)

    assert RENEWAL - 0.4 < held.renewal <= RENEWAL


def test_where_there_is_one_writer_only_news_are_written_soon():
    book = Book(one_writer=True)
    held = lease(book, lease=60)
    assert RENEWAL < held.renewal <= 15

    done(held, 1)
    soon = held.renewal
    held.renew()

    assert soon <= RENEWAL < held.renewal


# Lost


def test_who_lost_it_notices_at_the_renewal_and_can_write_nothing(book):
    held = lease(book)
    done(held, 1)
    book.owner = "there"

    assert not held.renew()

    assert held.lost
    for step in (held.check, held.settle):
        with pytest.raises(Lost):
            step()
    assert book.pages == []


def test_one_that_is_over_is_not_lost_whatever_a_late_renewal_finds(book):
    held = lease(book)
    done(held, 1, 2, 3, 4)
    held.settle()
    book.owner = None

    held.renew()

    assert not held.lost
