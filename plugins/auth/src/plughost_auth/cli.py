"""`plughost auth`: make API keys."""

from __future__ import annotations

import json
import re
import secrets
from hashlib import sha256

import click

from plughost_auth._api_key import PREFIX


@click.group()
def auth() -> None:
    """API keys of the auth plugin."""


@auth.command("new-key")
@click.argument("name", default="my-key")
def new_key(name: str) -> None:
    """Make an API key called NAME: the key for its user on stdout, what the config needs on stderr.

    Nothing is stored, and the key is shown this once.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    digest = sha256(key.encode()).hexdigest()
    click.echo(key)
    place = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
    click.echo(f'\n[plugins.auth.keys.{place}]\nsha256 = "{digest}"', err=True)
