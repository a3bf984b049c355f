"""How fast pgevents is, side by side with what one would write without it.

python -m benchmarks [--quick] [subject …]

latency      how long after a commit a listener is called, when all is quiet
writers      what the triggers cost those who write, alone and by sixteen
bulk         what they cost a statement that inserts 100,000 rows
delivery     how many events reach a listener in a second
sqlite       the same on SQLite, across processes, and what waiting costs
groups       how many events a group handles in a second, in one process …
processes    … and in several; measured with the groups
takeover     how soon another process goes on after kill -9; with the groups
rivals       other people's durable queues; with the groups
libraries    other libraries that tell of changed rows: how soon, at what cost

server       a PostgreSQL that keeps its promises: fsync, synchronous_commit
handwritten  the trigger and the loop that pgevents competes with
listeners    the processes that listen
members      the processes of a group
backlog      the orders that wait for it, on either database
report       the tables that are printed, and the targets
"""
