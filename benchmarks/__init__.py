"""How fast pgevents is, side by side with what one would write without it.

    python -m benchmarks [--quick] [subject …]

    latency      how long after a commit a listener is called, when all is quiet
    writers      what the triggers cost those who write, alone and by sixteen
    bulk         what they cost a statement that inserts 100,000 rows
    delivery     how many events reach a listener in a second
    sqlite       the same on SQLite, across processes, and what waiting costs

    server       a PostgreSQL that keeps its promises: fsync, synchronous_commit
    handwritten  the trigger and the loop that pgevents competes with
    listeners    the processes that listen
    report       the tables that are printed, and the targets
"""
