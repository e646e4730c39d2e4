"""API keys: issue, list, show, rotate, revoke, restore."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway.admin.state import actor_of, admin_of, keys_of
from gateway.auth.key_manager import KeyManager
from gateway.auth.key_record import KeyRecord
from gateway.errors import InvalidRequestError, NotReadyError
from serving.contracts.admin_api import (
    IssuedKey,
    IssueKey,
    KeyList,
    KeyView,
    RestoredKeys,
    RotateKey,
)

router = APIRouter(prefix="/admin/v1/keys", tags=["keys"])

_PAGE = 100


def key_view(record: KeyRecord, keys: KeyManager) -> KeyView:
    """Return what operators see of a key."""
    return KeyView(
        id=record.key_id,
        tenant=record.tenant,
        name=record.name,
        state=record.state(time.time()),
        scopes=record.scopes,
        models=record.models,
        created=record.created,
        expires=record.expires,
        rotated_from=record.rotated_from,
        overlap_ends=record.overlap_ends,
        revoked=record.revoked,
        old_pepper=keys.outdated(record),
    )


@router.post("", status_code=201)
async def issue(order: IssueKey, request: Request, response: Response) -> IssuedKey:
    """Make a key; its credential is in this answer and nowhere else."""
    keys = keys_of(request)
    details = {"tenant": order.tenant, "name": order.name, "scopes": order.scopes, "models": order.models}
    with admin_of(request).audit.change(actor_of(request), "key.issue", None, **details) as fields:
        _known_tenant(request, order.tenant)
        record, new = await keys.issue(order)
        fields["subject"] = record.key_id
    response.headers["cache-control"] = "no-store"
    warnings = _unknown_models(request, order.models)
    return IssuedKey(key=key_view(record, keys), credential=new.credential, warnings=warnings)


@router.get("")
async def list_keys(
    request: Request,
    tenant: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = _PAGE,
) -> KeyList:
    """List keys, the newest first, a page at a time."""
    keys = keys_of(request)
    records = [record for record in keys.list() if tenant is None or record.tenant == tenant]
    start = 0
    if after is not None:
        ids = [record.key_id for record in records]
        if after not in ids:
            raise InvalidRequestError("expected `after` of the page before; got another", param="after")
        start = ids.index(after) + 1
    page = records[start : start + limit]
    more = start + limit < len(records)
    return KeyList(keys=tuple(key_view(record, keys) for record in page), after=page[-1].key_id if more else None)


@router.get("/{key_id}")
async def show(key_id: str, request: Request) -> KeyView:
    """Show a key."""
    keys = keys_of(request)
    return key_view(keys.get(key_id), keys)


@router.post("/restore")
async def restore(request: Request) -> RestoredKeys:
    """Write this process's keys into a Redis that has lost them; what ended a key on either side ends it."""
    keys = keys_of(request)
    with admin_of(request).audit.change(actor_of(request), "key.restore", None) as fields:
        fields["restored"] = count = await keys.restore()
    return RestoredKeys(restored=count)


@router.post("/{key_id}/rotate", status_code=201)
async def rotate(key_id: str, order: RotateKey, request: Request, response: Response) -> IssuedKey:
    """Make a key that replaces another, which is accepted for a while more."""
    keys = keys_of(request)
    details = {"overlap_seconds": order.overlap_seconds}
    with admin_of(request).audit.change(actor_of(request), "key.rotate", key_id[:64], **details) as fields:
        record, new = await keys.rotate(key_id, order.overlap_seconds)
        fields["new_key"] = record.key_id
    response.headers["cache-control"] = "no-store"
    return IssuedKey(key=key_view(record, keys), credential=new.credential)


@router.post("/{key_id}/revoke")
async def revoke(key_id: str, request: Request) -> KeyView:
    """End a key for good, in every gateway within a second."""
    keys = keys_of(request)
    with admin_of(request).audit.change(actor_of(request), "key.revoke", key_id[:64]):
        record = await keys.revoke(key_id)
    return key_view(record, keys)


def _known_tenant(request: Request, tenant: str) -> None:
    snapshot = admin_of(request).store.snapshot
    if snapshot is None:
        raise NotReadyError("expected a policy, which lists the tenants; none has been loaded yet: try again later")
    known = sorted(each.name for each in snapshot.policy.tenants)
    if tenant not in known:
        raise InvalidRequestError(
            f"expected a tenant that the policy lists ({', '.join(known[:20]) or 'none'}); got {tenant!r}: add it to "
            "`tenants` first",
            param="tenant",
        )


def _unknown_models(request: Request, models: Sequence[str]) -> tuple[str, ...]:
    """Say which models nothing names at present; that is no error, for routes come and go."""
    snapshot = admin_of(request).store.snapshot
    if snapshot is None:
        return ()
    known = set(snapshot.routes).union(*(rule.match.models for rule in snapshot.policy.routing))
    return tuple(
        f"no route and no routing rule names model {model!r}: add its route, or issue a key with the right name"
        for model in models
        if model not in known
    )
