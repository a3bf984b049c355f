"""A small row may be a long text: twelve bytes of a number are 131,072 digits."""

import pytest

KINDS = {"plain": "", "partitioned": "PARTITION BY RANGE (id)"}
VALUES = {
    "jsonb": "('[' || repeat('1e131071,', 1600) || '1]')::jsonb",
    "numeric[]": "array_fill(1e131071::numeric, ARRAY[1600])",
}
CASES = [
    pytest.param("jsonb", "plain", {}, marks=pytest.mark.slow),
    ("numeric[]", "plain", {"exclude": ["n"]}),
    pytest.param("jsonb", "partitioned", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("column, kind, spec", CASES)
def test_a_small_row_that_is_a_huge_text_is_written_and_reported_by_its_key(
    captured, column, kind, spec
):
    table = captured.table("id int PRIMARY KEY, n int, big {}".format(column), KINDS[kind], **spec)
    if kind == "partitioned":
        captured.execute("CREATE TABLE {0}_all PARTITION OF {0} DEFAULT".format(table))

    events = captured.write(
        "INSERT INTO {} VALUES (1, 1, {})".format(table, VALUES[column]),
        "UPDATE {} SET n = 2, id = 2".format(table),
        "DELETE FROM {}".format(table),
        "INSERT INTO {} VALUES (3, 3, NULL)".format(table),
    )

    assert [(event.operation, event.old, event.new and event.new["id"]) for event in events] == [
        ("insert", None, 1),
        ("update", {"id": 1}, 2),
        ("delete", {"id": 2}, None),
        ("insert", None, 3),
    ]
    assert "big" in events[-1].new
