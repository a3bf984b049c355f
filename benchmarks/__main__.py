"""Measure, print a table for each subject, and last what has been reached."""

import argparse

from tests import servers

from . import (
    bulk,
    channels,
    delivery,
    groups,
    instructions,
    latency,
    libraries,
    opening,
    requests,
    sqlite,
    starting,
    writers,
)
from .report import Report
from .server import described, running

SUBJECTS = {
    "latency": latency,
    "writers": writers,
    "bulk": bulk,
    "instructions": instructions,
    "delivery": delivery,
    "sqlite": sqlite,
    "requests": requests,
    "opening": opening,
    "starting": starting,
    "groups": groups,
    "channels": channels,
    "libraries": libraries,
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--postgres", type=int, metavar="MAJOR", help="default: the newest")
    given = parser.parse_args()
    unknown = [name for name in given.subjects if name not in SUBJECTS]
    if unknown:
        parser.error("no subject {!r}: choose from {}".format(unknown[0], ", ".join(SUBJECTS)))
    report = Report(given.quick)
    try:
        with running(given.postgres) as server:
            report.say(described(server))
            for name in given.subjects or SUBJECTS:
                SUBJECTS[name].measure(server, report)
            report.targets()
    finally:
        servers.close()


if __name__ == "__main__":
    main()
