"""Groups: one process of many gets each event, even after a crash.

In reading order; each imports only what stands above it:

    standing       a lease that is kept, so that a group writes seldom
    ledger         what is written down of groups: cursors, leases, dead letters
    calls          how a group's listeners are called, and what is kept of a failure
    runner         the thread in which a group's listeners are called
    group          a group, and all groups of a hub
"""
