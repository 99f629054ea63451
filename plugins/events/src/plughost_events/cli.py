"""`plughost events`: look at the store of a config, whether a host runs on it or not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
from plughost import HostConfig, PlughostError, load_config, parse_plugin_config
from plughost.commands import config_option, json_option, need_config, print_json

from plughost_events._archive import archive_faults
from plughost_events._chain import Anchor
from plughost_events._config import EventsConfig
from plughost_events._database import Database
from plughost_events._event import Event, Row, rfc3339
from plughost_events._export import as_cloud_event
from plughost_events._export import as_json as to_line
from plughost_events._plugin import EventsPlugin
from plughost_events._reduce import State, load_reducer
from plughost_events._store import as_event
from plughost_events._upcast import Upcasters

FOLLOW_EVERY = 0.5
AS_STORED = Upcasters()


class Store:
    """The database that a config names, for reading."""

    def __init__(self, given: str | None, instance: str | None) -> None:
        self.host: HostConfig = load_config(need_config(given))
        self.config = self._config(instance)
        if self.config.url.is_memory:
            raise PlughostError("the events are in the host's memory; ask it: plughost ctl events read")
        self.database = self.config.database(self.host.folder, create=False)

    def _config(self, instance: str | None) -> EventsConfig:
        tables = {name: table for name, table in self.host.plugins.items() if (table.plugin or name) == "events"}
        name = instance or next(iter(tables), "events")
        if name not in tables:
            raise PlughostError(f"{self.host.source} has no [plugins.{name}] that is the plugin events; add it")
        config = parse_plugin_config(EventsPlugin, tables[name], name)
        assert isinstance(config, EventsConfig)
        return config

    def events(self, stream: str | None, after: int) -> Iterator[Event]:
        """Events behind a position, or of a stream behind a version."""

        def page(after: int) -> list[Row]:
            if stream is None:
                return self.database.page(after)
            return self.database.stream_page(stream, after)

        while rows := page(after):
            yield from (as_event(row, None, AS_STORED) for row in rows)
            after = rows[-1].position if stream is None else rows[-1].version


@contextmanager
def opened(given: str | None, instance: str | None) -> Iterator[Store]:
    store = Store(given, instance)
    try:
        yield store
    except (PlughostError, click.ClickException, BrokenPipeError):
        raise
    except Exception as error:
        raise PlughostError(f"{store.config.url} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        store.database.close()


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (click.option("--name", "instance", help="Instance, where the config has several."), config_option):
        command = option(command)
    return command


@click.group()
def events() -> None:
    """Look at the event store: newest events, one stream, the hash chain; export it."""


@events.command()
@store_options
@click.option("-n", "--last", default=20, show_default=True, help="How many of the newest events.")
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come.")
@json_option
def tail(given: str | None, instance: str | None, last: int, *, follow: bool, as_json: bool) -> None:
    """Print the newest events."""
    with opened(given, instance) as store:
        after = max(store.database.chain().head.position - last, 0)
        while True:
            for event in store.events(None, after):
                _print(event, as_json=as_json)
                after = event.position
            if not follow:
                return
            time.sleep(FOLLOW_EVERY)


@events.command()
@store_options
@click.argument("what")
@json_option
def show(given: str | None, instance: str | None, what: str, *, as_json: bool) -> None:
    """Print one event, named by its position or its id, or all events of a stream."""
    with opened(given, instance) as store:
        found = _one(store.database, what)
        if found is not None:
            print_json(to_line(as_event(found, None, AS_STORED)))
        elif store.database.version(what):
            for event in store.events(what, 0):
                _print(event, as_json=as_json)
        else:
            near = [name for name, _ in store.database.streams(what[:-1] or what, 5)]
            remedy = f"; there are for example {', '.join(near)}" if near else ""
            raise PlughostError(f"{what!r} is no position, id or stream of {store.config.url}{remedy}")


@events.command()
@store_options
@click.option("--anchor", metavar="POSITION:HASH", help="A head that was noted before; it must still be in the chain.")
@click.option("--archive", type=click.Path(path_type=Path, exists=True), help="Check the archived files in it too.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    given: str | None,
    instance: str | None,
    anchor: str | None,
    archive: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check the hash chain. Exit code 0 if no event was altered, removed or put in between; else 1, naming it."""
    with opened(given, instance) as store:
        try:
            end = Anchor.parse(anchor) if anchor else None
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--anchor") from None
        chain, faults = store.database.verify(end)
        if archive is not None:
            faults = [*archive_faults(archive, chain.anchor, store.database.key), *faults]
    if as_json:
        checked = {"ok": not faults, "begin": str(chain.anchor), "head": str(chain.head)}
        print_json({**checked, "faults": [{"position": fault.position, "what": fault.what} for fault in faults]})
    else:
        for fault in faults:
            click.echo(str(fault))
        word = f"{len(faults)} faults in" if faults else "no fault in"
        click.echo(f"{word} positions {chain.anchor.position + 1} to {chain.head.position}; head {chain.head}")
    ctx.exit(1 if faults else 0)


@events.command()
@store_options
@click.option("--stream", help="Only the events of this stream.")
@click.option("--after", default=0, help="Only behind this position (or version of the stream).")
@click.option("--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Only from then on (UTC).")
@click.option("--format", "form", type=click.Choice(["jsonl", "cloudevents"]), default="jsonl", show_default=True)
def export(  # noqa: PLR0917 - as above
    given: str | None, instance: str | None, stream: str | None, after: int, since: datetime | None, form: str
) -> None:
    """Print one JSON line for each event."""
    with opened(given, instance) as store:
        begin = (since - datetime(1970, 1, 1)).total_seconds() if since else 0.0  # noqa: DTZ001 - both are UTC
        if begin and stream is None:
            after = max(after, store.database.before(int(begin * 1e6)))
        source = f"urn:plughost:{store.host.host.name}"
        for event in store.events(stream, after):
            if event.time >= begin:
                line = as_cloud_event(event, source) if form == "cloudevents" else to_line(event)
                click.echo(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


@events.command()
@store_options
@click.option("--stream", help="Only the events of this stream.")
@click.option("--reducer", default="activity", show_default=True, help="`activity`, or `module:function`.")
@click.option("--until", type=int, help="Up to this position (or version of the stream).")
def replay(given: str | None, instance: str | None, stream: str | None, reducer: str, until: int | None) -> None:
    """Make the state anew from the first event on, and print it."""
    with opened(given, instance) as store:
        reduce = load_reducer(reducer, store.host.folder)
        state: State = {}
        for event in store.events(stream, 0):
            if until is not None and (event.position if stream is None else event.version) > until:
                break
            state = reduce(state, event)
    print_json(state)


def _one(database: Database, what: str) -> Row | None:
    if what.isdecimal():
        rows = database.page(int(what) - 1, 1)
        return rows[0] if rows and rows[0].position == int(what) else None
    return database.by_id(what)


def _print(event: Event, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(to_line(event), ensure_ascii=False))
        return
    data = event.data if event.data is not None else {"sealed": True}
    words = [str(data[key]) for key in ("method", "target", "subject", "outcome", "code") if key in data]
    click.echo(f"{event.position:>8}  {rfc3339(event.time)}  {event.type:<16}  {event.stream}  {' '.join(words)}")
