"""Frameworks: each adapter translates the life of an application into that of a hub.

Nothing here is imported unless an application asks for it. In reading order; each imports
only what stands above it:

    django         an app for INSTALLED_APPS
"""
