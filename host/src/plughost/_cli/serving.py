"""`plughost serve` and `plughost run`."""

from __future__ import annotations

import click

from plughost._cli.options import config_option, need_config


@click.command()
@config_option
@click.option("--stdio", is_flag=True, help="Serve one client on stdin and stdout instead of HTTP.")
@click.option("--watch", is_flag=True, help="Reload when the config file changes.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the port.")
@click.option("--trace-plugins", is_flag=True, help="Print plugin, phase and time per layer and call to stderr.")
@click.pass_context
def serve(
    ctx: click.Context, given: str | None, *, stdio: bool, watch: bool, workers: int, trace_plugins: bool
) -> None:
    """Serve the providers of the config file.

    Its plugins stand around them. SIGHUP reloads the file; Ctrl-C and SIGTERM let calls in flight finish, and a second
    one ends the host at once.
    """
    if stdio and workers > 1:
        raise click.UsageError("--stdio serves one client; it cannot be combined with --workers")
    path = need_config(given)
    from plughost import _serve  # noqa: PLC0415 - imports mcp

    ctx.exit(_serve.serve(path, stdio=stdio, watch=watch, workers=workers, trace=trace_plugins))


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--with", "plugins", metavar="PLUGIN", multiple=True, help="A plugin to put around it; may be repeated.")
@click.option("--http", is_flag=True, help="Serve HTTP on 127.0.0.1:8000 instead of stdin and stdout.")
@click.option("--listen", metavar="HOST:PORT", help="Serve HTTP there.")
@click.argument("command", nargs=-1, required=True)
@click.pass_context
def run(
    ctx: click.Context, plugins: tuple[str, ...], command: tuple[str, ...], listen: str | None, *, http: bool
) -> None:
    """Front one stdio server, COMMAND, without a config file."""
    from plughost import _config, _serve  # noqa: PLC0415 - imports mcp

    where = listen or (_config.DEFAULT_LISTEN if http else None)
    ctx.exit(_serve.run_command(list(command), plugins=list(plugins), listen=where))
