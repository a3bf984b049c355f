"""Text that is safe to show: on a terminal, in a log, as a thread's name.

Names, rows, contexts and errors hold what a writer chose: ESC takes over a
terminal, CR and line ends forge lines of a log, U+202E turns a line around.
What is written for programs (``--json``, SQL in a file) is not changed.
"""

import logging


def shown(text: str) -> str:
    r"""Return text for one line; what is not printable is written out as ``\x1b``, ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def paragraphs(text: str) -> str:
    """Return text of several lines, a traceback: line ends stay, tabs become spaces."""
    return "\n".join(shown(line.expandtabs(4)) for line in text.split("\n"))


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


class Harmless(logging.Filter):
    """Makes the messages and tracebacks of a logger safe to show, whatever its handlers are."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # message and arguments do not fit: logging itself reports this
        if not message.isprintable():
            record.msg, record.args = shown(message), ()
        if record.exc_info and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            if paragraphs(text) != text:
                record.exc_text = paragraphs(text)
        return True


logging.getLogger("pgevents").addFilter(Harmless())  # the one that all our modules use
