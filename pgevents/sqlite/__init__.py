"""The room for SQLite.

In reading order; each imports only what stands above it:

    connection     connections: how they are made, and what errors mean
    catalog        what the schema says of a table
    values         how the log holds values, and what the ORM would give
    marks          noticing that a table was altered or created again
    numbers        the numbers of the log's rows, which must not go back
    inotify        hearing from the kernel that a file is written
    courtesy       writes begin when nobody is in a transaction
    triggers       the text of the triggers
    capture        installing: the tables, and the triggers
    altering       a migration in the application's own transaction
    pages          how much of the log is read at once
    log            reading the log, by polling
    grouplog       the log as groups read it
    outbox         publishing, by an INSERT
    store          streams of events: an append begins with a write
    retention      old log rows go
    sqlite         SQLite, as a hub sees it
"""
