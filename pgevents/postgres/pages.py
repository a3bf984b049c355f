"""How much of the log is read at once, measured as it will be read: SQL for log.py and grouplog.py.

PostgreSQL stores long values compressed, and 2 MB of one letter takes 23 kB. What
a compressed JSON will be is known only when it is unpacked, and that takes time:
so it is done only as far as all may be within UNPACKED by the best that each
method of compression can do.
"""

PAGE_BYTES = 8_000_000  # of rows that are read at once, as they are read; at least one row
UNPACKED = 64_000_000  # bytes that are unpacked at the most to find out where a page ends

#: pglz writes 273 bytes with three, and one for eight of these; lz4 comes near 255 to one.
_MOST = """coalesce(pg_column_size({0})::float8 * CASE
           WHEN pg_column_compression({0}) IS NULL THEN 1
           WHEN pg_column_compression({0}) = 'pglz' THEN 88 ELSE 255 END, 0)"""

_EXACT = """coalesce(CASE WHEN pg_column_compression({0}) IS NULL THEN pg_column_size({0})
           ELSE octet_length({0}::text) END, 0)::float8"""

#: Of a row of the log. The length of a text is known without unpacking it. As float8:
#: a sum of bigint is a numeric, and slow.
_CONTEXT = "coalesce(octet_length(context), 0)"
MOST = f"{_MOST.format('old')} + {_MOST.format('new')} + {_CONTEXT}"
EXACT = f"{_EXACT.format('old')} + {_EXACT.format('new')} + {_CONTEXT}"

#: What most pages are made of: rows of which nothing is compressed. Then this is exact.
_SIZE = f"coalesce(pg_column_size(old), 0) + coalesce(pg_column_size(new), 0) + {_CONTEXT}"
_PACKED = "num_nulls(pg_column_compression(old), pg_column_compression(new)) < 2"

_BEFORE = "sum({0}) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - {0}"

#: The columns of a LogRow.
COLUMNS = "seq, xid, at, topic, operation, old, new, context"


def page(log: str, condition: str, rows: str) -> str:
    """Return SQL for the first rows of a log that meet a condition and fit a page, in order."""
    # OFFSET 0: else the planner works out the size wherever it is used. ORDER BY: else it
    # forgets that the rows are in order, and sorts.
    return f"""
    WITH found AS MATERIALIZED (
        SELECT {COLUMNS}, {_SIZE} AS size, {_PACKED} AS packed
          FROM {log} WHERE {condition} ORDER BY seq LIMIT {rows}
    ), plain AS MATERIALIZED (
        SELECT NOT bool_or(packed) AND sum(size) <= {PAGE_BYTES} AS fits FROM found
    )
    SELECT {COLUMNS} FROM found WHERE (SELECT fits FROM plain)
     UNION ALL
    SELECT {COLUMNS}
      FROM (SELECT m.*, {_BEFORE.format('exact')} AS before
              FROM (SELECT f.*, {EXACT} AS exact
                      FROM (SELECT l.*, {_BEFORE.format('most')} AS most_before
                              FROM (SELECT *, {MOST} AS most FROM found
                                     WHERE NOT (SELECT fits FROM plain) ORDER BY seq) l) f
                     WHERE most_before < {UNPACKED} ORDER BY seq OFFSET 0) m) measured
     WHERE before < {PAGE_BYTES}"""


def too_large(rows: str) -> str:
    """Return SQL that is true if ``fresh``, a CTE of whole rows, does not fit a page."""
    # One after the other, and only if it is needed.
    return f"""
    (SELECT CASE WHEN count(*) > {rows} OR sum({MOST}) > {UNPACKED} THEN true
                 WHEN sum({MOST}) > {PAGE_BYTES}
                 THEN (SELECT sum({EXACT}) > {PAGE_BYTES} FROM fresh)
                 ELSE false END FROM fresh)"""
