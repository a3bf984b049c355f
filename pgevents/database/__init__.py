"""What a database must be able to do; ``postgres`` and ``sqlite`` each do it.

In reading order; each imports only what stands above it:

    relation       a table as it was found
    spec           what is captured of a table
    there          what one look found: tables, what services want, triggers
    notes          rows of the log that are no events
    grouplog       a log as groups read it
    reader         what reads a log behind a cursor
    outbox         what publishes messages
    store          streams of events
    backend        one database, as a hub sees it
    writers        the Session or Connection that an application writes with
"""
