"""Groups: one process of many gets each event, even after a crash.

In reading order; each imports only what stands above it:

    progress       how far a group's backfill is
    pages          long lists of numbers, in parts
    options        how a group works
    definition     what all processes of a group have to agree about
    work           what a process has taken: a lease, and the rows it names
    standing       a lease that is kept, so that a group writes seldom
    failure        an attempt that failed, and what becomes of its event
    settlement     what is to be written down of a lease at one time
    lost           that a lease is somebody else's now
    group_rows     the table of groups: definitions and cursors
    lease_rows     the table of leases
    dead_letters   events that are given up
    claims         how a process takes events
    ledger         what is written down of all that
    lease          what one process has taken, while its listeners are called
    calls          how a group's listeners are called for rows of a lease
    reports        counters, log lines and signals of a group
    succession     what happens when who defined a group last is gone
    consumer       the thread in which a group's listeners are called
    renewer        the thread that keeps leases meanwhile
    group          a group, as an application looks after it
    box            what a loop of the application's own takes of a group
    received       a message in its hands
    groups         all groups of a hub, and their threads
"""
