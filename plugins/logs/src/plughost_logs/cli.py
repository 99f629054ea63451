"""`plughost logs`: what Elasticsearch and Kibana need, to standard output."""

from __future__ import annotations

import json

import click


@click.group()
def logs() -> None:
    """What Elasticsearch and Kibana need to know of the logs."""


@logs.command()
def template() -> None:
    """Print the index template, for `PUT _index_template/plughost-logs`."""
    from plughost_logs._elastic import index_template  # noqa: PLC0415 - only this command needs it

    click.echo(json.dumps(index_template(), indent=2))


@logs.command()
def kibana() -> None:
    """Print a data view and searches, one JSON object a line, for Kibana's import of saved objects."""
    from plughost_logs._elastic import saved_objects  # noqa: PLC0415 - only this command needs it

    for item in saved_objects():
        click.echo(json.dumps(item))
