"""The room for PostgreSQL.

In reading order; each imports only what stands above it:

    snapshot       what a transaction could see
    cursor         what of a table was read, and the SQL for what is new behind that
    literals       text of values that are made of others: arrays, composite values
    encoding       text of databases that are not in UTF-8
    translation    what psycopg2's errors mean, in our own
    watchdog       the thread that notices statements to which no answer comes
    session        a session of ours on the server
    address        where a URL or an Engine leads
    connection     connections: made, waited for, lost
    answers        several questions, asked in one statement
    catalog        what the catalog says of a table
    values         from the JSON in the log to what the ORM would give
    triggers       what each table needs, and the hash by which one is known
    rights         who owns what is ours, and who may use it
    places         the names of our tables and indexes, and what else bears them
    script         our SQL files, and the blocks that their functions share
    functions      the functions as they are made, and as they are found
    capture        installing: the tables, the functions, the triggers
    alterations    noticing that a table was created again or altered
    obstacles      who is in the way of the bell
    pages          how much of the log is read at once
    log            reading the log; how the reader sleeps
    grouplog       the log as groups read it
    outbox         publishing, by a function
    store          streams of events: an append is one statement
    retention      old log rows go
    postgresql     PostgreSQL, as a hub sees it
"""
