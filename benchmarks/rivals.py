def measure(server, report):
    pass
