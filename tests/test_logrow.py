"""The parts of a row of the log go by their names."""

from pgevents.events.logrow import CONTEXT, NEW, OLD, POSITION, TOPIC, size, with_parts

ROW = (7, "8", "2026-11-27 12:00:00+00", "public.orders", "insert", None, '{"id": 1}', "")


def test_a_copy_of_a_row_has_the_parts_that_are_given_and_all_others():
    row = with_parts(ROW, {TOPIC: "public.lines", NEW: None})

    assert row == (*ROW[:TOPIC], "public.lines", "insert", None, None, "")
    assert ROW[TOPIC] == "public.orders" and row[POSITION] == ROW[POSITION]


def test_the_size_of_a_row_is_that_of_its_values_and_its_context():
    assert size(with_parts(ROW, {OLD: "{}", CONTEXT: "four"})) == 2 + 9 + 4
    assert size((1, None, None, "main.orders", "truncate", None, None, None)) == 0
