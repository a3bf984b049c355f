"""Who listens to what.

In reading order; each imports only what stands above it:

    target         what somebody listens to
    columns        what a listener names as a column
    listener       a function that is to be called, and how
    table_listener  a function and the changes that it wants
    registry       who listens to what
    sqlalchemy_events  the same through sqlalchemy.event
"""
