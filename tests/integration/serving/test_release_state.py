from pathlib import Path

import pytest
import yaml

from serving import layout, release_state
from serving.contracts.observation import Side
from serving.contracts.route import Price
from serving.gitops import GitOps
from serving.release_documents import baseline_name, service_name, to_yaml
from serving.release_history import (
    NotDeployedError,
    ReleaseEndedError,
    ReleaseHeldError,
    ReleaseStateError,
    Step,
    holder_at,
    route_at,
    services_at,
)
from tests.fakes.releases import MODEL, make_registration, make_release

pytestmark = pytest.mark.integration
ENV = "local"
POLICY = "apiVersion: nexus/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: local}\nspec: {}\n"
ENDING = {"verdict": "promote", "evidence": "figures"}


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    repository = GitOps(str(tmp_path / "repo.git"), tmp_path / "repo.git")
    repository.ensure()
    release_state.seed_environment(repository, ENV, POLICY)
    return repository


def deploy(gitops: GitOps, number: int):
    release = make_release(number)
    registration = make_registration(release, str(number))
    return release, registration, release_state.deploy_candidate(gitops, release, registration, ENV)


def promote(gitops: GitOps, number: int):
    release, registration, _ = deploy(gitops, number)
    release_state.promote(gitops, release, registration, environment=ENV, **ENDING)
    return release, registration


def shift(gitops: GitOps, release, weight: int) -> str:
    return release_state.shift_weight(gitops, release.release_id, model=MODEL, environment=ENV, weight=weight)


def roll_back(gitops: GitOps, release) -> str:
    return release_state.roll_back(
        gitops, release.release_id, model=MODEL, environment=ENV, reason="harm", verdict="roll-back", evidence="figures"
    )


def weights(gitops: GitOps) -> dict[Side, int]:
    route = route_at(gitops.head(), MODEL, ENV)
    return {e.side: e.weight_percent for e in route.spec.endpoints} if route else {}


def services(gitops: GitOps) -> set[str]:
    """Services in git; what Argo CD is told to sync must be the same."""
    head = gitops.head()
    names = set(services_at(head, MODEL, ENV))
    text = head.read(layout.kustomization_path(MODEL, ENV))
    listed = set(yaml.safe_load(text)["resources"]) if text else set()
    assert listed == {f"services/{name}.yaml" for name in names}
    return names


def test_seeding_happens_once(gitops: GitOps) -> None:
    """An environment that has a policy keeps it."""
    before = gitops.head().commit
    assert release_state.seed_environment(gitops, ENV, POLICY.replace("local", "other")) is None
    assert gitops.head().commit == before


def test_shipped_policy_seeds_an_empty_environment(tmp_path: Path) -> None:
    """The policy of this repository is what an empty environment gets."""
    repository = GitOps(str(tmp_path / "new.git"), tmp_path / "new.git")
    repository.ensure()
    release_state.seed_environment(repository, ENV)
    shipped = Path(__file__).resolve().parents[3] / layout.policy_path(ENV)
    assert repository.head().read(layout.policy_path(ENV)) == shipped.read_text()


def test_first_release_has_no_clone_and_answers_everybody_when_judged(gitops: GitOps) -> None:
    """Without a stable version there is no route until the one step of 100 percent, and no baseline."""
    release, registration, state = deploy(gitops, 1)
    name = service_name(release, registration.weights_digest)
    assert (services(gitops), weights(gitops), state.weight_percent) == ({name}, {}, 0)
    with pytest.raises(ValueError, match="at 100 percent in a first release"):
        shift(gitops, release, 5)
    shift(gitops, release, 100)
    assert weights(gitops) == {Side.CANDIDATE: 100}
    roll_back(gitops, release)
    assert (services(gitops), weights(gitops)) == (set(), {})
    assert release_state.read_version(gitops, MODEL, ENV) is None


def test_canary_shares_users_and_promotion_leaves_one_service(gitops: GitOps) -> None:
    """During a step of weight w: candidate w, baseline w, stable the rest; after promotion the candidate alone."""
    old, old_registration = promote(gitops, 1)
    stable = service_name(old, old_registration.weights_digest)
    release, registration, _ = deploy(gitops, 2)
    candidate = service_name(release, registration.weights_digest)
    baseline = baseline_name(stable, release.release_id)
    assert services(gitops) == {stable, baseline, candidate}
    assert weights(gitops) == {Side.STABLE: 100, Side.BASELINE: 0, Side.CANDIDATE: 0}
    for weight in (5, 25, 50):
        shift(gitops, release, weight)
        assert weights(gitops) == {
            Side.STABLE: 100 - 2 * weight,
            Side.BASELINE: weight,
            Side.CANDIDATE: weight,
        }
        assert release_state.read_release(gitops, release.release_id, ENV).weight_percent == weight
    commit = release_state.promote(gitops, release, registration, environment=ENV, **ENDING)
    assert services(gitops) == {candidate}
    assert weights(gitops) == {Side.STABLE: 100}
    version = release_state.read_version(gitops, MODEL, ENV)
    assert (version.spec.service, version.spec.release_id) == (candidate, release.release_id)
    newest = gitops.log()[0]
    assert newest.sha == commit
    assert newest.trailers == {
        "Nexus-Release": release.release_id,
        "Nexus-Environment": ENV,
        "Nexus-Step": "promoted",
        "Nexus-Verdict": "promote",
        "Nexus-Evidence": "figures",
    }


def test_clone_serves_the_stable_version_not_the_candidate(gitops: GitOps) -> None:
    """The baseline has the stable weights and engine settings; swapped with the candidate this must fail."""
    old, old_registration = promote(gitops, 1)
    release, registration, _ = deploy(gitops, 2)
    head = gitops.head()
    stable = service_name(old, old_registration.weights_digest)
    clone = head.read(layout.service_path(MODEL, ENV, baseline_name(stable, release.release_id)))
    candidate = head.read(layout.service_path(MODEL, ENV, service_name(release, registration.weights_digest)))
    assert old_registration.storage_uri in clone
    assert registration.storage_uri not in clone
    assert registration.storage_uri in candidate
    original = yaml.safe_load(head.read(layout.service_path(MODEL, ENV, stable)))
    copy = yaml.safe_load(clone)
    assert copy["spec"] == original["spec"]


def test_rollback_gives_everybody_back_to_stable(gitops: GitOps) -> None:
    """One commit takes candidate and baseline out, and the stable version is untouched."""
    old, old_registration = promote(gitops, 1)
    before = gitops.head().read(layout.version_path(MODEL, ENV))
    release, _, _ = deploy(gitops, 2)
    shift(gitops, release, 25)
    count = len(gitops.log())
    roll_back(gitops, release)
    assert len(gitops.log()) == count + 1
    assert services(gitops) == {service_name(old, old_registration.weights_digest)}
    assert weights(gitops) == {Side.STABLE: 100}
    assert gitops.head().read(layout.version_path(MODEL, ENV)) == before
    state = release_state.read_release(gitops, release.release_id, ENV)
    assert (state.finished, state.last.step, state.weight_percent) == (True, Step.ROLLED_BACK, 0)


def test_every_transition_done_twice_changes_nothing(gitops: GitOps) -> None:
    """The second call returns the first one's commit."""
    promote(gitops, 1)
    release, registration, state = deploy(gitops, 2)
    calls = [
        lambda: release_state.deploy_candidate(gitops, release, registration, ENV).commit(Step.DEPLOYED),
        lambda: shift(gitops, release, 5),
        lambda: release_state.hold(
            gitops, release.release_id, environment=ENV, reason="too little", evidence="figures"
        ),
        lambda: release_state.promote(gitops, release, registration, environment=ENV, **ENDING),
    ]
    for call in calls:
        first = call()
        head = gitops.head().commit
        assert call() == first
        assert gitops.head().commit == head
    assert state.commit(Step.DEPLOYED) is not None


def test_other_weights_than_the_deployed_ones_are_refused(gitops: GitOps) -> None:
    """A run that had to build again, and got something else, must not wait for it nor promote it."""
    promote(gitops, 1)
    release, registration, _ = deploy(gitops, 2)
    head = gitops.head().commit
    rebuilt = registration.model_copy(update={"weights_digest": f"sha256:{'e' * 64}"})
    with pytest.raises(ReleaseStateError, match="--abandon"):
        release_state.deploy_candidate(gitops, release, rebuilt, ENV)
    assert gitops.head().commit == head


def test_weight_zero_is_the_deployment_itself(gitops: GitOps) -> None:
    """Asking for the weight a deployment has makes no commit and returns the deployment's."""
    promote(gitops, 1)
    release, _, state = deploy(gitops, 2)
    assert shift(gitops, release, 0) == state.commit(Step.DEPLOYED)


def test_held_release_keeps_its_weight_and_goes_on(gitops: GitOps) -> None:
    """An inconclusive verdict changes no file; the same release may shift and promote later."""
    promote(gitops, 1)
    release, registration, _ = deploy(gitops, 2)
    shift(gitops, release, 25)
    files = gitops.head().paths()
    release_state.hold(gitops, release.release_id, environment=ENV, reason="too little", evidence="one")
    state = release_state.read_release(gitops, release.release_id, ENV)
    assert (gitops.head().paths(), state.finished, state.weight_percent) == (files, False, 25)
    assert holder_at(gitops.head(), MODEL, ENV) == release.release_id
    assert weights(gitops)[Side.CANDIDATE] == 25
    shift(gitops, release, 50)
    release_state.promote(gitops, release, registration, environment=ENV, **ENDING)
    assert holder_at(gitops.head(), MODEL, ENV) is None


@pytest.mark.parametrize("first", [True, False])
def test_second_release_is_refused_until_the_first_ends(gitops: GitOps, first: bool) -> None:
    """The refusal names the other release and both ways out, and changes nothing."""
    if not first:
        promote(gitops, 1)
    holder, _, _ = deploy(gitops, 2)
    before = gitops.head().commit
    with pytest.raises(ReleaseHeldError, match=f"{holder.release_id}.*nexus release.*--abandon"):
        deploy(gitops, 3)
    with pytest.raises(ReleaseHeldError):
        release_state.require_free(gitops, make_release(3), ENV)
    assert gitops.head().commit == before
    release_state.abandon(gitops, holder.release_id, model=MODEL, environment=ENV, reason="operator")
    release, _, _ = deploy(gitops, 3)
    assert holder_at(gitops.head(), MODEL, ENV) == release.release_id


def test_ended_release_cannot_end_another_way(gitops: GitOps) -> None:
    """Promoted, it cannot be rolled back, shifted, held or rejected; rolled back, it cannot be promoted."""
    release, _ = promote(gitops, 1)
    for call in (
        lambda: roll_back(gitops, release),
        lambda: shift(gitops, release, 5),
        lambda: release_state.hold(gitops, release.release_id, environment=ENV, reason="x", evidence="y"),
        lambda: release_state.reject(gitops, release, environment=ENV, reason="x", evidence="y"),
    ):
        with pytest.raises(ReleaseEndedError, match="promoted"):
            call()
    other, other_registration, _ = deploy(gitops, 2)
    roll_back(gitops, other)
    with pytest.raises(ReleaseEndedError, match="rolled-back"):
        release_state.promote(gitops, other, other_registration, environment=ENV, **ENDING)
    assert release_state.read_version(gitops, MODEL, ENV).spec.release_id == release.release_id


def test_release_that_was_never_deployed_cannot_end(gitops: GitOps) -> None:
    """Nothing is promoted, rolled back or abandoned that git does not know."""
    release = make_release(1)
    with pytest.raises(NotDeployedError):
        release_state.promote(gitops, release, make_registration(release), environment=ENV, **ENDING)
    with pytest.raises(NotDeployedError):
        release_state.abandon(gitops, release.release_id, model=MODEL, environment=ENV, reason="x")


def test_rejection_is_a_commit_that_changes_no_file(gitops: GitOps) -> None:
    """It ends the release and leaves the model free; a deployed release cannot be rejected."""
    release = make_release(1)
    files = gitops.head().paths()
    commit = release_state.reject(gitops, release, environment=ENV, reason="too slow", evidence="benchmark")
    assert release_state.reject(gitops, release, environment=ENV, reason="too slow", evidence="benchmark") == commit
    assert gitops.head().paths() == files
    assert release_state.read_release(gitops, release.release_id, ENV).verdict == "rejected"
    deployed, _, _ = deploy(gitops, 2)
    with pytest.raises(ReleaseStateError, match="abandon"):
        release_state.reject(gitops, deployed, environment=ENV, reason="x", evidence="y")


def test_stable_service_that_somebody_deleted_is_written_again(gitops: GitOps) -> None:
    """Rolling back always ends in a served model."""
    old, old_registration = promote(gitops, 1)
    stable = service_name(old, old_registration.weights_digest)
    path = layout.service_path(MODEL, ENV, stable)
    text = gitops.head().read(path)
    release, _, _ = deploy(gitops, 2)
    gitops.commit(lambda _: {path: None}, "a mistake", {})
    roll_back(gitops, release)
    assert services(gitops) == {stable}
    assert gitops.head().read(path) == text


def test_commits_of_people_do_not_confuse_the_state(gitops: GitOps) -> None:
    """A hand-made commit in the model's folder, with no trailers, neither frees nor takes the model."""
    promote(gitops, 1)
    release, _, _ = deploy(gitops, 2)
    gitops.commit(lambda _: {f"{layout.model_folder(MODEL, ENV)}/note.txt": "hello"}, "by hand", {})
    assert holder_at(gitops.head(), MODEL, ENV) == release.release_id


def test_shift_keeps_what_another_push_did_meanwhile(tmp_path: Path, gitops: GitOps) -> None:
    """A weight shift that loses the race is computed anew on the head that won, and both changes stand."""
    promote(gitops, 1)
    release, _, _ = deploy(gitops, 2)
    other = GitOps(gitops.url, tmp_path / "other.git")
    other.ensure()
    original = GitOps.head
    raced = []

    def racing_head(self):
        head = original(self)
        if not raced and self is gitops:
            raced.append(True)
            other.commit(lambda _: {"notes/policy.txt": "theirs"}, "theirs", {})
        return head

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GitOps, "head", racing_head)
        shift(gitops, release, 25)
    assert gitops.head().read("notes/policy.txt") == "theirs"
    assert weights(gitops)[Side.CANDIDATE] == 25


def test_state_is_of_one_environment(gitops: GitOps) -> None:
    """What a release did in one environment neither ends, deploys, holds nor rejects it in another."""
    release_state.seed_environment(gitops, "prod", POLICY)
    release, registration = promote(gitops, 1)
    assert release_state.read_release(gitops, release.release_id, ENV).finished
    assert release_state.read_release(gitops, release.release_id, "prod").transitions == ()
    release_state.deploy_candidate(gitops, release, registration, "prod")
    assert holder_at(gitops.head(), MODEL, "prod") == release.release_id
    assert holder_at(gitops.head(), MODEL, ENV) is None
    release_state.hold(gitops, release.release_id, environment="prod", reason="too little", evidence="figures")
    assert release_state.read_release(gitops, release.release_id, "prod").last.step is Step.HELD
    release_state.roll_back(
        gitops, release.release_id, model=MODEL, environment="prod", reason="x", verdict="roll-back", evidence="y"
    )
    assert release_state.read_release(gitops, release.release_id, "prod").last.step is Step.ROLLED_BACK
    assert release_state.read_release(gitops, release.release_id, ENV).last.step is Step.PROMOTED
    assert holder_at(gitops.head(), MODEL, "prod") is None


@pytest.mark.parametrize("ending", ["promoted", "rolled-back"])
def test_rules_that_people_wrote_into_a_route_outlive_a_release(gitops: GitOps, ending: str) -> None:
    """A release moves endpoints and weights; fallbacks and price are the model owner's."""
    promote(gitops, 1)
    path, route = layout.route_path(MODEL, ENV), route_at(gitops.head(), MODEL, ENV)
    price = Price(input_usd_per_million_tokens=1, output_usd_per_million_tokens=2)
    ruled = route.spec.model_copy(update={"fallbacks": ("other",), "price": price})
    text = to_yaml(route.model_copy(update={"spec": ruled}))
    gitops.commit(lambda _: {path: text}, "Add a fallback", {})
    release, registration, _ = deploy(gitops, 2)
    shift(gitops, release, 25)
    if ending == "promoted":
        release_state.promote(gitops, release, registration, environment=ENV, **ENDING)
    else:
        roll_back(gitops, release)
    found = route_at(gitops.head(), MODEL, ENV).spec
    assert (found.fallbacks, found.price) == (("other",), price)
    assert [endpoint.weight_percent for endpoint in found.endpoints] == [100]
