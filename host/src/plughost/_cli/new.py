"""`plughost new`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder to make the package's folder in; default: here.",
)
def new(name: str, into: Path) -> None:
    """Make a new plugin package from the template."""
    from plughost._template import render  # noqa: PLC0415 - for this command only

    target = render(name, into / name)
    click.echo(f"made {target}; next: pip install -e {target} && plughost plugins check {name}")
