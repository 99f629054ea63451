"""`plughost health`: ask a running host how it does. The exit code is for containers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from plughost import PlughostError
from plughost.commands import (
    NoHostError,
    config_option,
    instances_of,
    json_option,
    need_config,
    operate,
    print_json,
    read_document,
)

DEFAULT_LISTEN = "127.0.0.1:8000"


@click.command()
@config_option
@json_option
@click.option("--url", help="Ask this over HTTP, for example http://127.0.0.1:8000/readyz.")
@click.option("--ready", is_flag=True, help="Fail also while the host drains.")
@click.option("--strict", is_flag=True, help="Fail also while the host is degraded.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the answer.")
@click.pass_context
def health(
    ctx: click.Context, given: str | None, url: str | None, timeout: float, *, as_json: bool, ready: bool, strict: bool
) -> None:
    """Ask a running host how it does. Exit code 0 if it is healthy or degraded, 1 if not, or if nobody answers.

    Asks every worker over the control socket, or over HTTP the address in the config where there is no control socket.
    """
    answers = [_over_http(url, timeout)] if url else _ask(need_config(given), timeout, ready=ready)
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            who = f"worker {answer['worker']}: " if len(answers) > 1 else ""
            click.echo(who + "\n".join(_lines(answer)))
    words = {answer["status"] for answer in answers}
    words |= {"draining" for answer in answers if ready and answer.get("draining")}
    ctx.exit(0 if words <= ({"healthy", "alive"} if strict else {"healthy", "alive", "degraded"}) else 1)


def _ask(config: Path, timeout: float, *, ready: bool) -> list[dict[str, Any]]:
    """What each worker says.

    Raises:
        PlughostError: The config has no health plugin, or nobody answers.
    """
    name, *_ = instances_of("health", config)
    try:
        found = operate(config, name, "show", wait=timeout)
        return [{"worker": pid, **answer} for pid, answer in found.items()]
    except NoHostError:
        table = read_document(config).get("host", {})
        if table.get("control", True):
            raise
        address = table.get("listen", DEFAULT_LISTEN)
        host, _, port = address.rpartition(":")
        reachable = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - an address to replace
        return [_over_http(f"http://{reachable}:{port}/{'readyz' if ready else 'healthz'}", timeout)]


def _over_http(url: str, timeout: float) -> dict[str, Any]:
    """What a route says.

    Raises:
        PlughostError: Nobody answers, or somebody else.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise PlughostError(f"--url is {url!r}; write for example http://{DEFAULT_LISTEN}/readyz")
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/healthz", headers={"accept": "application/json"})
        body = json.loads(connection.getresponse().read())
        return {"status": str(body["status"]), **body}
    except OSError as error:
        raise PlughostError(f"{url} does not answer: {error}") from error
    except (ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise PlughostError(f"{url} is not answered by a host with the health plugin") from error
    finally:
        connection.close()


def _lines(answer: Mapping[str, Any]) -> list[str]:
    draining = ", draining" if answer.get("draining") else ""
    failed = [check for check in answer.get("checks", ()) if check["status"] == "failed"]
    return [f"{answer['status']}{draining}", *(f"  {check['name']}: {check['reason']}" for check in failed)]
