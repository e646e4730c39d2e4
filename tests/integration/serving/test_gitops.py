import os
import threading
import time
from pathlib import Path

import pytest

from serving.git_command import run_git
from serving.gitops import GitOps, GitOpsError

pytestmark = pytest.mark.integration


@pytest.fixture
def local(tmp_path: Path) -> GitOps:
    repository = GitOps(str(tmp_path / "repo.git"), tmp_path / "repo.git")
    repository.ensure()
    return repository


@pytest.fixture
def remotes(tmp_path: Path) -> tuple[GitOps, GitOps]:
    """Two mirrors of one repository, as two machines have them."""
    origin = tmp_path / "origin.git"
    first, second = (GitOps(str(origin), tmp_path / f"mirror-{name}.git") for name in "ab")
    first.ensure()
    second.ensure()
    return first, second


def test_empty_repository_has_no_files_and_no_history(local: GitOps) -> None:
    """Before the first commit everything is absent and nothing fails."""
    head = local.head()
    assert (head.commit, head.paths(), head.read("a"), head.log()) == (None, [], None, [])


def test_commit_writes_deletes_and_reads_back(local: GitOps) -> None:
    """Text comes back byte for byte, with carriage returns, accents and without a final newline."""
    text = "ä: 'x'\r\nb: 한국\nno newline"
    local.commit(lambda _: {"a/b.yaml": text, "a/c.yaml": "1\n"}, "first", {"Nexus-Step": "one"})
    sha = local.commit(lambda _: {"a/c.yaml": None}, "second", {"Nexus-Step": "two  lines\nfolded"})
    head = local.head()
    assert head.commit == sha
    assert head.paths("a") == ["a/b.yaml"]
    assert head.read("a/b.yaml") == text
    assert head.read("a") is None
    assert [(c.subject, c.trailers) for c in head.log()] == [
        ("second", {"Nexus-Step": "two lines folded"}),
        ("first", {"Nexus-Step": "one"}),
    ]


def test_log_finds_whole_trailer_values_and_paths(local: GitOps) -> None:
    """A release id that starts like another one is not mistaken for it."""
    local.commit(lambda _: {"x/a": "1"}, "one", {"Nexus-Release": "m-1"})
    local.commit(lambda _: {"y/a": "1"}, "two", {"Nexus-Release": "m-12"})
    local.commit(lambda _: {}, "three\n\nNexus-Release: m-1 in the text", {"Other": "1"})
    assert [c.subject for c in local.log(trailer=("Nexus-Release", "m-1"))] == ["one"]
    assert [c.subject for c in local.log("y")] == ["two"]


def test_change_that_has_nothing_to_do_makes_no_commit(local: GitOps) -> None:
    """None means no commit; an empty mapping records a decision without touching a file."""
    assert local.commit(lambda _: None, "nothing", {}) is None
    assert local.head().commit is None
    assert local.commit(lambda _: {}, "a decision", {}) == local.head().commit


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a//b", "a/.git/config", "a\nb", 'a"b', ""])
def test_paths_that_leave_the_tree_are_refused(local: GitOps, path: str) -> None:
    """Nothing but plain relative paths reaches git."""
    with pytest.raises(GitOpsError, match="plain relative paths"):
        local.commit(lambda _: {path: "x"}, "bad", {})
    assert local.head().commit is None


def test_error_in_a_change_leaves_the_head(local: GitOps) -> None:
    """A change that raises commits nothing."""
    before = local.commit(lambda _: {"a": "1"}, "first", {})
    with pytest.raises(RuntimeError):
        local.commit(lambda _: (_ for _ in ()).throw(RuntimeError("no")), "second", {})
    assert local.head().commit == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["local", "remote"])
def test_racing_pushers_lose_nothing(kind: str, local: GitOps, remotes: tuple[GitOps, GitOps]) -> None:
    """Two writers that add one line at a time to one file both get all their lines in, redone on the new head."""
    first, second = remotes if kind == "remote" else (local, local)
    calls: list[str] = []

    def add(repository: GitOps, name: str) -> None:
        for number in range(8):

            def change(head, number=number):
                calls.append(name)
                return {"lines": (head.read("lines") or "") + f"{name}{number}\n"}

            repository.commit(change, f"{name}{number}", {})

    threads = [threading.Thread(target=add, args=args) for args in ((first, "a"), (second, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (first.head().read("lines") or "").split()
    assert sorted(lines) == sorted(f"{name}{number}" for name in "ab" for number in range(8))
    assert [line for line in lines if line.startswith("a")] == [f"a{number}" for number in range(8)]
    assert len(first.log()) == 16
    assert second.head().commit == first.head().commit


def test_lost_race_redoes_the_change_on_the_new_head(remotes: tuple[GitOps, GitOps]) -> None:
    """A push between reading and pushing makes the change run again on what the other one wrote."""
    first, second = remotes
    seen: list[str | None] = []

    def change(head):
        seen.append(head.read("a"))
        if len(seen) == 1:
            second.commit(lambda _: {"a": "theirs"}, "theirs", {})
        return {"b": "ours"}

    first.commit(change, "ours", {})
    assert seen == [None, "theirs"]
    assert (first.head().read("a"), first.head().read("b")) == ("theirs", "ours")


def test_lock_of_a_killed_git_is_taken_away(local: GitOps) -> None:
    """A ref lock left by kill -9 does not stop the next writer; a fresh one is waited for."""
    local.commit(lambda _: {"a": "1"}, "first", {})
    lock = local.mirror / "refs/heads/main.lock"
    lock.write_text("")
    long_ago = time.time() - 60
    os.utime(lock, (long_ago, long_ago))
    assert local.commit(lambda _: {"a": "2"}, "second", {}) == local.head().commit


def test_inherited_git_state_is_ignored(local: GitOps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Called from a hook of another repository, only our own repository is touched."""
    for name, value in {"GIT_DIR": "x", "GIT_INDEX_FILE": "x", "GIT_OBJECT_DIRECTORY": str(tmp_path / "o")}.items():
        monkeypatch.setenv(name, value)
    local.commit(lambda _: {"a": "1"}, "first", {})
    assert local.head().read("a") == "1"
    assert not (tmp_path / "o").exists()


def test_failure_names_the_command_and_its_last_words(tmp_path: Path) -> None:
    """A broken repository is an error that says what git said."""
    (tmp_path / "repo.git").mkdir()
    broken = GitOps(str(tmp_path / "repo.git"), tmp_path / "repo.git")
    with pytest.raises(GitOpsError, match="not a git repository"):
        broken.head()


def test_half_made_repository_is_made_again(tmp_path: Path) -> None:
    """A kill while the repository is created leaves nothing that the next run takes for one."""
    folder = tmp_path / ".repo.git.half"
    folder.mkdir()
    repository = GitOps(str(tmp_path / "repo.git"), tmp_path / "repo.git")
    repository.ensure()
    repository.ensure()
    assert run_git(f"--git-dir={tmp_path / 'repo.git'}", "rev-parse", "--is-bare-repository").strip() == "true"
