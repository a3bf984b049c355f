"""Streams of events: what an application appends, loads again, and makes projections of.

    s = hub.streams
    s.append("17", Paid(...), category="orders", expected_version=3)
    for event in s.load("17", category="orders"): …
    @s.subscribe(category="orders", group="balances")    a group that reads the streams' table

In reading order; each imports only what stands above it:

    selection      which events somebody asks for
    names          names of streams, categories and tenants, checked
    codec          what changes data on its way to the database and back
    types          types of events: their classes, versions and upcasters
    stored         an event that is stored, as a listener receives it
    subscription   a function and the events that it is called with
    committed      what is to be told when a transaction has committed
    listeners      functions that are called within an append, and after its commit
    writing        an append: checked, written, told
    history        what ``load()`` returns
    reading        what ``read()`` returns
    streams        what an application has as ``hub.streams``
"""
