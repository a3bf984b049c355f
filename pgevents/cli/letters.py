"""``pgevents dead``, ``retry``, ``discard``: what a group has given up, and what becomes of it."""

import json
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import click

from ..errors import UsageError
from ..events.entry import Entry
from ..groups.dead_letters import DeadLetter
from ..groups.group import Group
from . import options
from .groups import counted, hub_of, named
from .say import ask, say, say_lines


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@click.option("--json", "as_json", is_flag=True, help="One dead letter as JSON per line.")
@click.option("--traceback", is_flag=True, help="With the whole traceback of each.")
@options.schema
def dead(url: str, group: str, as_json: bool, traceback: bool, schema: str) -> None:
    """Show what a group has given up, oldest first.

    \b
    Examples:
      pgevents dead sqlite:///shop.db mailer
      pgevents dead postgresql://me@host/shop mailer --traceback
    """
    with named(url, schema, group) as found:
        letters = found.dead_letters()
    for letter in letters:
        if as_json:
            click.echo(json.dumps(_letter(letter)))
            continue
        say(_line(letter))
        if traceback:
            say_lines(letter.traceback)
    if not letters and not as_json:
        say(f"the group {group} has given nothing up")


def _line(letter: DeadLetter) -> str:
    event = letter.event
    return (
        f"{letter.id}  {letter.at:%Y-%m-%d %H:%M:%S %Z}  {event.moment} {event.topic}"
        f" {_key(event)}  after {letter.attempts} attempts: {letter.error}"
    )


def _key(event: Entry) -> str:
    try:
        return repr(event.key)
    except Exception as error:  # one row that cannot be read must not hide the other letters
        return f"(a row that cannot be read: {error!r:.200})"


def _event(event: Entry) -> Dict[str, Any]:
    """Return the event as JSON types; of one that JSON cannot hold, why, and which it is."""
    try:
        return dict(json.loads(event.to_json()))
    except Exception as error:
        return {"position": event.position, "topic": event.topic, "unreadable": str(error)}


def _letter(letter: DeadLetter) -> Dict[str, Any]:
    return {
        "id": letter.id,
        "at": letter.at.isoformat(),
        "attempts": letter.attempts,
        "error": letter.error,
        "traceback": letter.traceback,
        "event": _event(letter.event),
    }


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@options.schema
def retry(url: str, group: str, ids: Tuple[int, ...], schema: str) -> None:
    """Retry dead letters: all of a group, or these.

    \b
    Examples:
      pgevents retry postgresql://me@host/shop mailer
      pgevents retry postgresql://me@host/shop mailer 17 18
    """
    with named(url, schema, group) as found:
        there = [letter.id for letter in found.dead_letters()]
        count = found.retry_dead(*ids)
    complaints = [*_unknown(group, ids, there)]
    stay = len([number for number in there if not ids or number in ids]) - count
    if stay > 0:
        their = "stays: its event is" if stay == 1 else "stay: their events are"
        complaints.append(f"{counted(stay, 'dead letter')} of {group} {their} in the log no more")
    _report(f"{counted(count, 'dead letter')} of {group} will be retried", count, complaints)


@click.command(cls=options.Command)
@options.url
@click.argument("group", required=False)
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@click.option("--all-groups", is_flag=True, help="Those of all groups, in place of GROUP.")
@click.option(
    "--older-than",
    callback=options.age,
    default="0s",
    metavar="AGE",
    help="Only those that were given up so long ago: 30d, 12h, 45m, 90s.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.schema
def discard(
    url: str,
    group: Optional[str],
    ids: Tuple[int, ...],
    all_groups: bool,
    older_than: float,
    yes: bool,
    schema: str,
) -> None:
    """Forget dead letters: all of a group, or these.

    Their events are never handled. The command asks, unless you give numbers. A hub
    does the same by itself with Hub(dead_letter_retention=…).

    \b
    Examples:
      pgevents discard postgresql://me@host/shop mailer 17 18
      pgevents discard postgresql://me@host/shop mailer --older-than 30d
      pgevents discard postgresql://me@host/shop --all-groups --older-than 30d --yes
    """
    if all_groups == (group is not None):
        raise UsageError("whose dead letters? Name a GROUP, or give --all-groups without one")
    if all_groups:
        with hub_of(url, schema) as hub:
            groups = hub.groups()
            chosen = [(one, one.dead_letters(older_than)) for one in groups]
            _discard(chosen, "all groups", yes)
        return
    assert group is not None
    with named(url, schema, group) as found:
        there = found.dead_letters()
        letters = found.dead_letters(older_than) if older_than else there
        letters = [letter for letter in letters if not ids or letter.id in ids]
        unknown = [*_unknown(group, ids, [letter.id for letter in there])]
        _discard([(found, letters)], group, yes or bool(ids), unknown)


def _discard(
    chosen: List[Tuple[Group, List[DeadLetter]]],
    whose: str,
    yes: bool,
    complaints: Sequence[str] = (),
) -> None:
    """Discard those that were counted: others may have come since."""
    number = sum(len(letters) for _, letters in chosen)
    if number and not yes:
        ask(f"Discard {counted(number, 'dead letter')} of {whose}? None is ever handled.")
    count = sum(group.discard_dead(*letters) for group, letters in chosen if letters)
    _report(f"{counted(count, 'dead letter')} of {whose} discarded", count, list(complaints))


def _unknown(group: str, ids: Iterable[int], there: List[int]) -> Iterator[str]:
    """Give the sentence that names the ids which no dead letter has, if there are any."""
    unknown = ", ".join(str(number) for number in ids if number not in there)
    if unknown:
        yield f"{group} has no dead letter {unknown}"


def _report(done: str, count: int, complaints: List[str]) -> None:
    """Print what was done with how many letters. Raises UsageError for the complaints."""
    if count or not complaints:
        say(done)
    if complaints:
        raise UsageError("; ".join(complaints))
