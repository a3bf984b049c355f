"""Messages of the application's own: what they are, and who publishes and receives them.

    hub.publish("orders.new", {"id": 17})      a row of the log, topic "channel:orders.new"
    @hub.subscribe("orders.*")                 a listener, at the moment "message"

In reading order; each imports only what stands above it:

    names          names of channels, and patterns that stand for several
    message        a message, as a listener receives it
    outgoing       a message that is to be published, checked
    subscription   a function and the channels that it listens to
    native         PostgreSQL's own notifications
    receiver       a function that listens to a channel until stop() is called
    publisher      publishes, in the caller's transaction or in one of its own
    expiry         which messages have expired, by the database's clock
    mover          the thread that publishes delayed messages when they are due
"""
