"""Commands about API keys: issue, list, rotate, revoke, restore. They speak to the gateway's admin API."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from nexus.admin import AdminClient, open_admin
from nexus.cli.output import JsonOption, err, out, print_json
from serving.contracts.admin_api import IssuedKey, IssueKey, KeyScope, KeyState, KeyView, RotateKey
from serving.settings import NexusSettings

keys = typer.Typer(name="keys", help="Issue, list, rotate, revoke and restore API keys.", no_args_is_help=True)


_WHOLE: Final = frozenset({"id", "created", "ends"})
"""Columns that are of no use in pieces."""

_KEY: Final = re.compile(r"nx_([0-9A-Za-z]{12})_[0-9A-Za-z]{36}")

_NOT_SENT: Final = re.compile(r"[\x00-\x20\x7f]")  # what no HTTP request can name


def _address(url: str | None) -> str | None:
    """Refuse what is no address before anything is sent there."""
    if url and not _is_address(url):
        raise typer.BadParameter(f"expected an address such as http://127.0.0.1:8081; got {url!r}")
    return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False
    sent = parts.path.isascii() and not _NOT_SENT.search(url)
    return sent and parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


UrlOption = Annotated[
    str | None, typer.Option("--url", help="Admin API; by default this machine's gateway.", callback=_address)
]
TenantArgument = Annotated[str, typer.Argument(help="Tenant that the gateway policy lists.")]
NameArgument = Annotated[str, typer.Argument(help="What people call the key.")]
ScopeOption = Annotated[list[KeyScope], typer.Option("--scope", help="What it may be used for; may be repeated.")]
ModelOption = Annotated[list[str] | None, typer.Option("--model", help="Model it may ask for; may be repeated.")]
DaysOption = Annotated[float | None, typer.Option("--days", help="Days until it ends; without it, none.")]


def _id_of(key: str) -> str:
    """Take the id out of a whole key, so that its secret goes no further."""
    whole = _KEY.fullmatch(key)
    return key if whole is None else whole[1]


IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Public id, the middle of the key; or the key.", callback=_id_of)
]
OverlapOption = Annotated[float, typer.Option("--overlap-hours", help="How long the old key is accepted, too.")]
OnlyOption = Annotated[str | None, typer.Option("--tenant", help="Only keys of this tenant.")]

_STYLES = {KeyState.ACTIVE: "green", KeyState.REPLACED: "yellow"}


@keys.command()
def issue(
    tenant: TenantArgument,
    name: NameArgument,
    scope: ScopeOption = [KeyScope.INFERENCE],  # noqa: B006 - Typer copies it
    model: ModelOption = None,
    days: DaysOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print it: this is the only time that it is shown."""
    lasts = None if days is None else days * 86_400
    try:
        order = IssueKey(tenant=tenant, name=name, scopes=tuple(scope), models=tuple(model or ()), lasts_seconds=lasts)
    except ValidationError as exc:
        raise _usage(exc) from exc
    _show_issued(_client(url).issue(order), json=json)


@keys.command(name="list")
def list_keys(tenant: OnlyOption = None, url: UrlOption = None, json: JsonOption = False) -> None:
    """List keys, the newest first; secrets are never shown."""
    found = list(_client(url).keys(tenant))
    if json:
        print_json({"keys": [key.model_dump(mode="json") for key in found]})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "tenant", "name", "state", "scopes", "models", "created", "ends"):
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    for key in found:
        state = f"[{_STYLES.get(key.state, 'red')}]{key.state}[/]" + (", old pepper" if key.old_pepper else "")
        models = ", ".join(key.models) or "all"
        table.add_row(
            key.id, key.tenant, escape(key.name), state, ", ".join(key.scopes), models, _day(key.created), _end(key)
        )
    out.print(table)


@keys.command()
def rotate(
    key_id: IdArgument, overlap_hours: OverlapOption = 24.0, url: UrlOption = None, json: JsonOption = False
) -> None:
    """Make a key that replaces another, and print it: this is the only time that it is shown."""
    try:
        order = RotateKey(overlap_seconds=overlap_hours * 3_600)
    except ValidationError as exc:
        raise _usage(exc) from exc
    _show_issued(_client(url).rotate(key_id, order), json=json)


@keys.command()
def revoke(key_id: IdArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """End a key at once and for good, in every gateway."""
    key = _client(url).revoke(key_id)
    print_json(key) if json else out.print(f"{key.id} of {key.tenant} is revoked", markup=False, soft_wrap=True)


@keys.command()
def restore(url: UrlOption = None, json: JsonOption = False) -> None:
    """Write the gateway's keys into a Redis that has lost them; what ended a key on either side ends it."""
    count = _client(url).restore()
    print_json({"restored": count}) if json else out.print(f"{count} keys are written back")


def _client(url: str | None) -> AdminClient:
    return open_admin(NexusSettings.load(), url)


def _usage(error: ValidationError) -> typer.BadParameter:
    """Say what is wrong with an order that the admin API would refuse, too."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return typer.BadParameter(f"{where}: {first['msg']}; got {first['input']!r}")


def _show_issued(issued: IssuedKey, *, json: bool) -> None:
    if json:
        print_json(issued)
        return
    for warning in issued.warnings:
        err.print(f"warning: {warning}", markup=False, soft_wrap=True)
    err.print(
        f"key {issued.key.id} of {issued.key.tenant}, shown this once: keep it safe", markup=False, soft_wrap=True
    )
    typer.echo(issued.credential)


def _end(key: KeyView) -> str:
    times = [time for time in (key.expires, key.overlap_ends, key.revoked) if time is not None]
    return _day(min(times)) if times else "-"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
