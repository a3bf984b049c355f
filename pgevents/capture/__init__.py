"""What is wanted of a database, and that it stays so.

In reading order; each imports only what stands above it:

    wanted         what a hub wants captured
    upkeep         sees to it that it is, and stays so
    housekeeper    the thread that cleans
"""
