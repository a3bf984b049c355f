"""How often and how soon something is tried again; without a database, and without waiting."""

from itertools import islice

import pytest

from pgevents import Retry, UsageError
from pgevents.retry import Backoff

ROUNDS = 200  # of random times


def test_a_wait_is_random_between_half_and_the_whole_of_a_value_that_doubles():
    wholes = [1, 2, 4, 8]

    rounds = [list(islice(Backoff(1, 100), 4)) for _ in range(ROUNDS)]

    for waits in rounds:
        assert all(whole / 2 <= wait <= whole for wait, whole in zip(waits, wholes))
    assert all(len({waits[n] for waits in rounds}) > ROUNDS / 2 for n in range(4))


def test_waits_grow_no_longer_than_the_longest_and_never_end():
    waits = list(islice(Backoff(1, 3), 5000))

    assert max(waits) <= 3
    assert min(waits[2:]) >= 1.5


def test_each_one_who_waits_begins_with_the_first():
    backoff = Backoff(1, 100)
    list(islice(backoff, 10))

    assert next(iter(backoff)) <= 1


@pytest.mark.parametrize("attempt, whole", [(1, 1), (2, 2), (3, 4), (4, 5), (50, 5)])
def test_the_wait_after_an_attempt_is_the_one_of_its_number(attempt, whole):
    waits = [Backoff(1, 5).wait(attempt) for _ in range(ROUNDS)]

    assert whole / 2 <= min(waits) <= max(waits) <= whole


@pytest.mark.parametrize("first, longest", [(1, 5), (5, 1)])
def test_the_most_is_a_limit_to_all_waits(first, longest):
    backoff = Backoff(first, longest)

    assert backoff.most == 5
    assert max(islice(backoff, ROUNDS)) <= backoff.most


def test_a_retry_has_attempts_and_the_waits_between_them():
    retry = Retry(attempts=5, first=2, longest=30)

    assert retry.attempts == 5
    assert (retry.backoff.first, retry.backoff.longest) == (2, 30)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"attempts": 0}, "attempts=0: give a whole number, 1 or more"),
        ({"attempts": 1.5}, "attempts=1.5: give a whole number"),
        ({"attempts": True}, "attempts=True: give a whole number"),
        ({"first": -1}, "first=-1: give seconds, 0 or more"),
        ({"longest": "1"}, "longest='1': give seconds"),
        ({"longest": float("inf")}, "longest=inf: give seconds"),
    ],
    ids=str,
)
def test_what_is_no_number_of_attempts_or_seconds_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Retry(**options)
