"""From a row of the log to one call of a listener.

In reading order; each imports only what stands above it:

    topics         what a hub knows of the tables in its log
    strangers      rows of a newer release, which are skipped
    entries        what a row is to a listener: a change, or a message
    intake         what rows become: events, or a gap
    lookup         a thread that asks the database what tables look like
    around         context managers around each call of a listener
    call           one call of a listener
    delivery       how plain listeners are called, the next one in spite of errors
    dispatcher     the threads that call them, and the queue before
    source         the thread that reads, and fills the queue
"""
