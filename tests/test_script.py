"""Our SQL files, in which functions share blocks; without a database."""

import re

import pytest

from pgevents.postgres.script import rendered, script


def test_a_block_is_put_in_wherever_it_is_named():
    text = "a;\n--- block b\nb;\n--- end\n\n--- put b\nc;\n--- put b\n"

    assert rendered(text) == "a;\nb;\nc;\nb;\n"


def test_a_block_has_parameters_and_all_else_stays():
    text = (
        "--- block look: table, columns\n"
        "SELECT <columns> FROM <table> WHERE a <> '<other>';\n"
        "--- end\n"
        "    --- put look: orders, id\n"
    )

    assert rendered(text) == "SELECT id FROM orders WHERE a <> '<other>';\n"


def test_a_block_may_put_in_another_with_its_own_parameters():
    text = (
        "--- block inner: x\n<x>;\n--- end\n"
        "--- block outer: y\n--- put inner: <y>\n--- end\n"
        "--- put outer: 1\n--- put outer: 2\n"
    )

    assert rendered(text) == "1;\n2;\n"


def test_remarks_about_blocks_are_left_out_and_comments_stay():
    text = "--- About the block.\n--- block b\n-- b\n--- end\n\n-- a\n--- put b\n"

    assert rendered(text) == "-- a\n-- b\n"


@pytest.mark.parametrize("name", ["functions.sql", "rights.sql"])
def test_nothing_of_a_block_or_a_schema_is_left_in_what_is_installed(name):
    sql = script(name, '"ours"')

    assert re.findall(r'---|<[a-z_]+>|:"', sql) == []
    assert '"ours".' in sql


def test_a_function_that_captures_rows_pins_the_same_settings():
    sql = script("functions.sql", '"ours"')

    pinned = re.findall(r'"ours"\.capture_(\w+)\(\).*\n(?:.*\n)((?:SET .*\n)+)', sql)

    settings = {name: lines for name, lines in pinned if name != "truncate"}
    assert sorted(settings) == ["delete", "insert", "row", "update"]
    assert len({*settings.values()}) == 1
