from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import pytest

from gateway.folder_signature import signature_of
from gateway.policy_store import PolicyStore
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts import metric_names as names
from tests.fakes.waiting import until

POLICY = "kind: GatewayPolicy\nmetadata: {name: gateway}\nspec: {}\n"
ROUTE = """kind: Route
metadata: {name: m}
spec:
  model: m
  endpoints:
    - {service: m-1, side: stable, weight_percent: 100}
"""

pytestmark = pytest.mark.asyncio


class Site:
    """A policy folder as the node writes it: one folder a commit, and a link that is swapped."""

    def __init__(self, root: Path, endpoints: bool = True) -> None:
        self.root = root
        self.current = root / "current"
        self.endpoints = root / "endpoints.json"
        self.metrics = GatewayMetrics()
        self.commit("one")
        self.serve(True)
        self.store = PolicyStore(
            self.current, self.endpoints if endpoints else None, interval_seconds=0.01, metrics=self.metrics
        )

    def commit(self, name: str, route: str = ROUTE, policy: str = POLICY, refused: str | None = None) -> None:
        folder = self.root / name
        (folder / "routes").mkdir(parents=True)
        (folder / "policy.yaml").write_text(policy)
        (folder / "routes/m.yaml").write_text(route)
        (folder / "REVISION").write_text(name)
        if refused is not None:
            (folder / "REFUSED").write_text(refused)
        link = self.root / ".next"
        link.symlink_to(name)
        link.replace(self.current)

    def serve(self, ready: bool, text: str | None = None) -> None:
        new = self.root / ".endpoints"
        new.write_text(text or json.dumps({"m-1": {"url": "http://127.0.0.1:1", "ready": ready}}))
        new.replace(self.endpoints)

    def failures(self, source: str) -> float:
        return self.metrics.registry.get_sample_value(names.GATEWAY_RELOAD_FAILURES, {"source": source}) or 0.0

    async def settle(self) -> None:
        for _ in range(5):
            await self.store.refresh()


async def test_a_swapped_link_replaces_the_snapshot_at_the_next_look(tmp_path: Path) -> None:
    """One look after the link is swapped, readiness and the metric show the new revision."""
    site = Site(tmp_path)
    await site.store.refresh()
    assert site.store.readiness.revision == "one"
    site.commit("two")
    await site.store.refresh()
    assert site.store.readiness == type(site.store.readiness)(True, (), "two")
    sample = site.metrics.registry.get_sample_value(names.GATEWAY_SNAPSHOT_INFO, {"revision": "two"})
    assert sample == 1


async def test_what_the_node_refused_is_told_on(tmp_path: Path) -> None:
    """A revision whose broken documents were left out is counted as refused, and readiness says why."""
    site = Site(tmp_path)
    await site.store.refresh()
    site.commit("two", refused="policy.yaml:3: spec.limitz: unknown key")
    await site.store.refresh()
    readiness = site.store.readiness
    assert (readiness.ready, readiness.revision) == (True, "two")
    assert readiness.reasons == ()
    assert readiness.unapplied == ("refused: policy.yaml:3: spec.limitz: unknown key",)
    assert site.failures("policy") == 1


async def test_a_bad_document_is_refused_once_and_the_last_good_one_stays(tmp_path: Path) -> None:
    """A refused commit is counted once and shown, the snapshot stays the same object, and a mended commit is read."""
    site = Site(tmp_path)
    await site.settle()
    good = site.store.snapshot
    site.commit("bad", route=ROUTE.replace("100}", "99}") + "surplus: 1\n")
    await site.settle()
    assert site.store.snapshot is good
    readiness = site.store.readiness
    assert (readiness.ready, readiness.revision) == (True, "one")
    assert any("surplus: unknown key" in reason for reason in readiness.reasons)
    assert site.failures("policy") == 1
    site.commit("mended")
    await site.settle()
    assert site.store.readiness == type(readiness)(True, (), "mended")


async def test_files_that_vanish_leave_the_last_good_snapshot(tmp_path: Path) -> None:
    """When policy and endpoints vanish, the last routes stay live, both reasons are shown, and a commit mends it."""
    site = Site(tmp_path)
    await site.settle()
    shutil.rmtree(tmp_path / "one")
    site.endpoints.unlink()
    await site.settle()
    assert site.store.snapshot is not None
    assert "m" in site.store.snapshot.routes
    assert site.store.snapshot.routes["m"].live
    assert len(site.store.readiness.reasons) == 2
    site.commit("back")
    await site.settle()
    assert site.store.readiness.revision == "back"


async def test_the_old_folder_may_vanish_right_after_the_swap(tmp_path: Path) -> None:
    """Twenty swaps, each with the old folder deleted before the look, are all read without a failure."""
    site = Site(tmp_path)
    await site.store.refresh()
    for number in range(20):
        old = site.current.resolve()
        site.commit(f"c{number}")
        shutil.rmtree(old)
        await site.store.refresh()
        assert site.store.readiness.revision == f"c{number}"
    assert site.failures("policy") == 0


async def test_a_folder_edited_in_place_is_read_when_it_has_settled(tmp_path: Path) -> None:
    """An edit inside the current folder is read after a few looks, though the link stays."""
    site = Site(tmp_path)
    await site.settle()
    (site.current / "routes/m.yaml").write_text(ROUTE.replace("model: m", "model: n"))
    await site.settle()
    assert site.store.snapshot is not None
    assert set(site.store.snapshot.routes) == {"n"}


async def test_an_engine_that_leaves_is_noticed_though_the_policy_is_broken(tmp_path: Path) -> None:
    """With a refused policy in place, a service that is no longer ready still leaves the live targets."""
    site = Site(tmp_path)
    await site.settle()
    site.commit("bad", policy="kind: Nonsense\n")
    site.serve(False)
    await site.settle()
    assert site.store.snapshot is not None
    assert site.store.snapshot.routes["m"].live == ()
    assert "model m: service m-1 (stable) is not ready" in site.store.readiness.reasons


@pytest.mark.parametrize("text", ["", "{", "[]", '{"m-1": {"url": "ftp://x", "ready": true}}', '{"m-1": {"ready": 1}}'])
async def test_a_bad_endpoints_file_is_refused_and_the_last_good_one_stays(tmp_path: Path, text: str) -> None:
    """An unusable endpoints file is counted once and shown, and the services stay live."""
    site = Site(tmp_path)
    await site.settle()
    site.serve(True, text or " ")
    await site.settle()
    assert site.store.snapshot is not None
    assert site.store.snapshot.routes["m"].live
    assert site.failures("endpoints") == 1
    assert any(reason.startswith("endpoints refused") for reason in site.store.readiness.reasons)


async def test_nothing_to_read_is_not_ready_and_recovers(tmp_path: Path) -> None:
    """Without a policy folder there is no snapshot and no readiness, until a commit comes."""
    site = Site(tmp_path)
    site.current.unlink()
    await site.settle()
    assert site.store.snapshot is None
    assert not site.store.readiness.ready
    assert "cannot be read" in site.store.readiness.reasons[0]
    site.commit("late")
    await site.settle()
    assert site.store.readiness.ready


async def test_looking_without_a_change_costs_no_reload(tmp_path: Path) -> None:
    """Looks at unchanged files keep the same snapshot and count no second reload."""
    site = Site(tmp_path)
    await site.settle()
    await until(lambda: not signature_of(site.current).young and not signature_of(site.endpoints).young)
    await site.settle()
    before = site.store.snapshot
    await site.settle()
    assert site.store.snapshot is before
    assert site.metrics.registry.get_sample_value(names.GATEWAY_RELOADS) == 1


async def test_a_rule_that_waits_for_a_route_is_named_and_is_no_fault(tmp_path: Path) -> None:
    """A rule without a route stands under `unapplied`, and `reasons` stay empty."""
    site = Site(tmp_path)
    rule = "{name: twin, match: {}, to: [{model: m-sglang}]}"
    site.commit("two", policy=POLICY.replace("spec: {}", f"spec: {{routing: [{rule}]}}"))
    await site.store.refresh()
    readiness = site.store.readiness
    assert (readiness.ready, readiness.unapplied) == (True, ("rule twin is passed over: no route for m-sglang",))


async def test_a_replaced_snapshot_is_freed_off_the_loop_once_its_last_request_has_ended(tmp_path: Path) -> None:
    """Routes of a replaced snapshot live while a request uses it, then until the next look; no collection is needed."""
    site = Site(tmp_path)
    await site.store.refresh()
    used_by_a_request = site.store.snapshot
    of_service = site.store.builder.registry.of_service
    gc.disable()
    try:
        site.commit("two", route=ROUTE.replace("m-1", "m-2"))
        await site.store.refresh()
        await site.store.refresh()
        assert used_by_a_request is not None
        assert of_service("m-1")
        del used_by_a_request
        assert of_service("m-1")  # the request's end, on the event loop, frees no routes
        await site.store.refresh()
        assert of_service("m-1") == ()
        assert of_service("m-2")
    finally:
        gc.enable()
