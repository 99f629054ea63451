"""`plughost dev`: a host around a plugin that is being written. Only that plugin is loaded anew when it is edited."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click
from plughost._cli.options import config_option
from plughost._document import find_config

if TYPE_CHECKING:
    from plughost._serve import _Serving

    from plughost_testing._work import Workshop

logger = logging.getLogger("plughost")

INTERVAL = 0.2
"""Seconds between looks at the files; an edit is taken when two looks in a row see the same."""


@click.command()
@config_option
@click.option("--http/--stdio", default=True, help="Serve HTTP (the default), or one client on stdin and stdout.")
@click.option("--trace-plugins", is_flag=True, help="Print plugin, phase and time per layer and call to stderr.")
@click.argument("path", metavar="PLUGIN_PATH")
@click.pass_context
def dev(ctx: click.Context, given: str | None, path: str, *, http: bool, trace_plugins: bool) -> None:
    """Serve with a plugin under work, and load only that one anew when one of its files changes.

    PLUGIN_PATH is FILE.py:CLASS, or the folder of an installed package with plugins. The host keeps running and its
    clients stay connected. An edit that does not load keeps what runs and prints why. The plugin's keys come from the
    config file, if there is one with a table for it; the config file is watched, too.
    """
    ctx.exit(_serve(given, path, http=http, trace=trace_plugins))


def _serve(given: str | None, path: str, *, http: bool, trace: bool) -> int:
    from plughost import load_config  # noqa: PLC0415 - imports pydantic
    from plughost._serve import _configure_logging, _listen, _Serving, _speak, bind  # noqa: PLC0415 - imports mcp
    from plughost._stdio import Wire  # noqa: PLC0415 - imports mcp

    from plughost_testing._work import Workshop, find_work  # noqa: PLC0415 - imports mcp

    wire = None if http else Wire()
    source = find_config(given)
    config = load_config(source if source is not None else {})
    _configure_logging(config, trace=trace)
    # Compiled files are told from their sources by size and whole second: two edits in one look the same.
    sys.dont_write_bytecode, sys.pycache_prefix = True, os.devnull
    work = find_work(path)
    life = _Serving(config)
    life.host = host = Workshop(config, work, trace=trace)
    logger.info("%s: loaded anew when it changes: %s", ", ".join(work.plugins), ", ".join(map(str, work.roots)))
    if wire is not None:
        return anyio.run(life.run, partial(_follow, host, partial(_speak, wire)))
    with bind(config) as listener:
        return anyio.run(life.run, partial(_follow, host, partial(_listen, listener)))


async def _follow(host: Workshop, speak: Callable[[_Serving], Awaitable[None]], life: _Serving) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_reload_on_change, host)
        await speak(life)
        tasks.cancel_scope.cancel()


async def _reload_on_change(host: Workshop) -> None:
    from plughost._serve import _reload  # noqa: PLC0415 - imports mcp

    taken = seen = host.first_look
    while True:
        await anyio.sleep(INTERVAL)
        now = host.look()
        if now != taken and now == seen:
            taken = now
            await _reload(host)
        seen = now
