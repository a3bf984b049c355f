"""Long lists of numbers, in parts that one statement can take."""

from typing import Iterator, List

PAGE = 500  # rows that a statement names one by one


def pages(numbers: List[int]) -> Iterator[List[int]]:
    """Give them in parts: SQLite may bind a thousand values at most, and keeps writers waiting."""
    return (numbers[first : first + PAGE] for first in range(0, len(numbers), PAGE))
