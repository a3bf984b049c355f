"""The command ``manage.py pgevents``."""
