"""``pgevents uninstall``: take the triggers back, and the log with the last of them."""

import click

from ..hub import Hub
from ..registry import Registry
from . import options


@click.command(cls=options.Command)
@options.url
@click.option("--everything", is_flag=True, help="What all services capture, and the log itself.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.service
@options.schema
def uninstall(url: str, everything: bool, yes: bool, service: str, schema: str) -> None:
    """Stop capturing what a service has captured.

    Removes the triggers that no other service needs; when no service is left,
    the log too, and with it the events that nobody has read yet. Asks before.

    \b
    Examples:
      pgevents uninstall sqlite:///shop.db
      pgevents uninstall postgresql://owner@host/shop --service reports
      pgevents uninstall postgresql://owner@host/shop --everything --yes
    """
    hub = Hub(url, Registry(), schema, service=service)
    rows = hub.installed()
    ours = [row["table"] for row in rows if everything or service in row["services"]]
    if rows and not ours:
        others = sorted({name for row in rows for name in row["services"]})
        click.echo(f"the service {service!r} captures nothing here; there is {', '.join(others)}")
        return
    if ours and not yes:
        click.confirm(f"Stop capturing {', '.join(ours)}?", abort=True)
    hub.uninstall(everything)
    click.echo(f"no longer captured: {', '.join(ours)}" if ours else "nothing was captured here")
