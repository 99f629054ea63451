"""`plughost encryption`: make keys."""

from __future__ import annotations

import click


@click.group()
def encryption() -> None:
    """Keys for what plugins store."""


@encryption.command()
def new_key() -> None:
    """Print a new key: 256 random bits. Keep it where the config refers to, never in the config itself."""
    from plughost_encryption._keys import new_key as made  # noqa: PLC0415 - only this command needs it

    click.echo(made())
