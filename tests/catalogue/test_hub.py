"""A real HTTP server that speaks the hub's protocol, and everything that goes wrong on the way."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download
from tests.catalogue.conftest import REPO, Heard
from tests.catalogue.hub_server import COMMIT, Fault, Repository

from rhapsode.catalogue.fetch import transfer
from rhapsode.catalogue.fetch.hub import Hub
from rhapsode.core.errors import RhapsodeError, VerificationMismatch

WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0, 0.0))


def fetch(folder: Path, heard: Heard, *, repo: str = REPO, revision: str | None = None) -> Path:
    source = Hub(repo, revision=revision)
    source.terms(folder)
    return source.fetch(folder, heard)


def test_the_server_speaks_as_a_hub_does(hub, tmp_path):
    path = snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path / "cache", allow_patterns=["*.json", WEIGHTS])
    files = hub.repositories[REPO].files
    assert (Path(path) / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert (Path(path) / "config.json").read_bytes() == files["config.json"]
    assert path.endswith(COMMIT)


def test_only_data_is_fetched_and_all_of_it(hub, tmp_path, heard):
    path = fetch(tmp_path, heard)
    assert {file.name for file in path.iterdir()} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        WEIGHTS,
        "README.md",
        "LICENSE",
    }
    assert all(file.read_bytes() == hub.repositories[REPO].files[file.name] for file in path.iterdir())
    last = heard.of("progress")[-1]
    assert last["done"] == last["total"] == sum(file.stat().st_size for file in path.iterdir())


def test_the_commit_is_pinned_before_the_first_byte(hub, tmp_path, heard):
    source = Hub(REPO, revision="main")
    source.fetch(tmp_path, heard)
    assert source.revision() == COMMIT
    assert all(f"/resolve/{COMMIT}/" in a.path for a in hub.asked if "/resolve/" in a.path)


def test_a_broken_transfer_goes_on_where_it_stopped(hub, tmp_path, heard):
    hub.faults[WEIGHTS] = Fault(break_after=6000)
    path = fetch(tmp_path, heard)
    assert (path / WEIGHTS).read_bytes() == hub.repositories[REPO].files[WEIGHTS]
    assert hub.bytes_asked(WEIGHTS) == [None, "bytes=6000-"]


def test_an_interrupted_pull_goes_on_in_the_next_process(hub, tmp_path, heard):
    hub.faults[WEIGHTS] = Fault(break_after=5000, times=1)
    hub.repositories[REPO].files, whole = dict(hub.repositories[REPO].files), hub.repositories[REPO].files[WEIGHTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "TRIES", 1)
        with pytest.raises(RhapsodeError, match=r"model.safetensors could not be fetched whole: 5,000 of") as failure:
            fetch(tmp_path, heard)
    assert "goes on where it stopped" in failure.value.hint
    assert (fetch(tmp_path, heard) / WEIGHTS).read_bytes() == whole
    assert hub.bytes_asked(WEIGHTS)[-1] == "bytes=5000-"


def test_a_server_without_ranges_sends_it_all_again(hub, tmp_path, heard):
    hub.faults[WEIGHTS] = Fault(break_after=6000, no_ranges=True, times=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "TRIES", 1)
        with pytest.raises(RhapsodeError):
            fetch(tmp_path, heard)
    hub.faults[WEIGHTS] = Fault(no_ranges=True)
    assert (fetch(tmp_path, heard) / WEIGHTS).read_bytes() == hub.repositories[REPO].files[WEIGHTS]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(hub, tmp_path, heard, status):
    hub.faults[WEIGHTS] = Fault(status=status, times=2)
    assert (fetch(tmp_path, heard) / WEIGHTS).is_file()


def test_wrong_bytes_are_found_by_their_hash_and_removed(hub, tmp_path, heard):
    hub.faults[WEIGHTS] = Fault(flip=True)
    with pytest.raises(VerificationMismatch, match=r"model.safetensors is not what the repository says: its sha256"):
        fetch(tmp_path, heard)
    assert not list(tmp_path.rglob("model.safetensors*"))


def test_wrong_bytes_of_a_small_file_are_found_too(hub, tmp_path, heard):
    hub.faults["config.json"] = Fault(flip=True)
    with pytest.raises(VerificationMismatch, match=r"config.json is not what the repository says: its git hash"):
        fetch(tmp_path, heard)


def test_a_gated_model_says_where_to_accept_and_takes_a_token(hub, tmp_path, heard, monkeypatch):
    hub.repositories[REPO].needs_token = "hf_secret"
    with pytest.raises(RhapsodeError, match="only to those who accepted its terms") as failure:
        fetch(tmp_path, heard)
    assert f"accept them at {hub.url}/{REPO}" in failure.value.hint
    assert "HF_TOKEN" in failure.value.hint
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (fetch(tmp_path, heard) / WEIGHTS).is_file()


def test_a_token_stays_with_the_hub(hub, tmp_path, heard, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(tmp_path, heard)
    assert any("hf_secret" in a.headers.get("authorization", "") for a in hub.asked if a.host == "hub")
    assert not any("authorization" in a.headers for a in hub.asked if a.host == "store")


def test_names_that_lead_elsewhere_are_never_asked_for(hub, tmp_path, heard):
    hub.repositories[REPO].extra_names = ("../../evil.json", "/etc/evil.json", "sub/evil.json", "..\\evil.json")
    fetch(tmp_path, heard)
    assert not any("evil" in a.path for a in hub.asked)


def test_an_unknown_model_and_an_unknown_revision_are_named(hub, tmp_path, heard):
    with pytest.raises(RhapsodeError, match="has no model sea-press/nobody"):
        fetch(tmp_path, heard, repo="sea-press/nobody")
    with pytest.raises(RhapsodeError, match="has no revision v9"):
        fetch(tmp_path, heard, revision="v9")


def test_a_hub_that_is_down_and_one_that_is_not_there(hub, tmp_path, heard, monkeypatch):
    hub.is_down = True
    with pytest.raises(RhapsodeError, match="answered 503"):
        fetch(tmp_path, heard)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RhapsodeError, match="cannot be reached"):
        fetch(tmp_path, heard)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pytorch_model.bin": b"x"}, "only as pickles"),
        ({"model-q4.gguf": b"x"}, "GGUF files"),
        ({"config.json": b"{}"}, "no weights"),
    ],
)
def test_a_repository_without_safetensors_is_refused_with_the_reason(hub, tmp_path, heard, files, words):
    hub.repositories["sea-press/odd"] = Repository(files)
    with pytest.raises(RhapsodeError, match=words):
        fetch(tmp_path, heard, repo="sea-press/odd")


def test_one_whole_file_is_taken_rather_than_shards_beside_it(hub, tmp_path, heard):
    files = hub.repositories[REPO].files
    files["model-00001-of-00002.safetensors"] = files["consolidated.safetensors"] = b"twice"
    path = fetch(tmp_path, heard)
    assert [file.name for file in path.glob("*.safetensors")] == [WEIGHTS]


def test_what_the_hubs_own_cache_holds_is_not_fetched_again(hub, tmp_path, heard):
    from huggingface_hub import constants

    snapshot_download(REPO, endpoint=hub.url, cache_dir=constants.HF_HUB_CACHE, allow_patterns=[WEIGHTS])
    before = len(hub.bytes_asked(WEIGHTS))
    path = fetch(tmp_path, heard)
    assert len(hub.bytes_asked(WEIGHTS)) == before == 1
    assert not (path / WEIGHTS).is_symlink()
    expected = hashlib.sha256(hub.repositories[REPO].files[WEIGHTS]).hexdigest()
    assert hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest() == expected


def test_the_licence_is_that_of_the_card_with_its_own_text(hub, tmp_path):
    terms = Hub(REPO).terms(tmp_path)
    assert terms is not None
    assert (terms.licence.id, terms.licence.is_permissive) == ("apache-2.0", True)
    assert terms.text == hub.repositories[REPO].files["LICENSE"]
    assert Path(terms.place).read_bytes() == terms.text


def test_a_licence_that_nobody_knows_is_not_taken_for_a_permissive_one(hub, tmp_path):
    hub.repositories[REPO].card = {"license": "other", "license_name": "sailor-1.0", "license_link": "LICENSE"}
    terms = Hub(REPO).terms(tmp_path)
    assert terms is not None
    assert (terms.licence.id, terms.licence.is_permissive) == ("sailor-1.0", False)
