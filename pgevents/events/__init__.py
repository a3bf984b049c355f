"""What an event is: its values, its key, its JSON.

In reading order; each imports only what stands above it:

    logrow         a row of the log, as both databases give it
    identity       which object of a mapped class a row is
    kinds          of which type a column's values are, and what they can equal
    values         rows: from the log's text to Python values
    envelope       the JSON of an event: its fields, checked
    tagged         values outside JSON, as JSON with tags
    entry          a row of the log, as a listener receives it
    event          a change of one row
"""
