"""What is wanted of a database, and that it stays so.

In reading order; each imports only what stands above it:

    wanted         what a hub wants captured
    plan           what is wanted, compared with what is there: a list of operations
    upkeep         sees to it that it is, and stays so
    chores         what is done again and again: lost triggers, old rows, old dead letters
    housekeeper    the thread that does it
"""
