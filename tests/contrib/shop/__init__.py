"""An app of Django's, for tests: models of many kinds, listeners, and migrations that alter."""
