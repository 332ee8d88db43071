import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.catalogue import store
from rhapsode.core.errors import RecipeError, RhapsodeError
from rhapsode.core.manifest import writing


def put(name: str, **facts: str) -> Path:
    path = store.models_dir() / name
    with writing(path, kind=store.KIND, facts=facts) as work:
        (work.path / "config.json").write_text("{}", encoding="utf-8")
    return path


def test_the_store_is_below_the_home(home, monkeypatch, tmp_path):
    assert store.models_dir() == home / "models"
    monkeypatch.delenv("RHAPSODE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store.models_dir() == tmp_path / "cache" / "rhapsode" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.models_dir() == tmp_path / ".cache" / "rhapsode" / "models"


def test_models_are_found_by_name_and_by_the_repository_they_came_from():
    path = put("sailor", source="hub:sea-press/sailor")
    assert store.find("sailor") == store.find("sea-press/sailor") == path
    assert store.find("nobody") is store.find("sea-press/nobody") is None
    assert [model.name for model in store.installed()] == ["sailor"]


def test_a_directory_without_a_manifest_is_not_here():
    (store.models_dir() / "half").mkdir(parents=True)
    assert store.find("half") is None
    assert store.installed() == []


def test_a_removed_model_is_gone():
    path = put("sailor")
    assert store.remove("sailor") == path
    assert not path.exists()
    assert not list(store.models_dir().iterdir())
    with pytest.raises(RhapsodeError, match="sailor is not here"):
        store.remove("sailor")


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../models", "a/b", "/etc", "~", "-rf", "a\0b", "a\n", "x" * 200, ".x"]
)
def test_names_never_lead_out_of_the_store(name):
    assert not store.is_name(name)
    assert store.find(name) is None
    with pytest.raises(RecipeError, match="cannot be the name of a model"):
        store.remove(name)


@given(st.text(max_size=40))
def test_whatever_is_a_name_is_one_folder_of_the_store(name):
    if store.is_name(name):
        assert os.path.normpath(store.models_dir() / name) == str(store.models_dir() / name)
        assert (store.models_dir() / name).parent == store.models_dir()


def test_two_processes_do_not_fetch_the_same(home):
    with store.working("hub:sea/sailor") as folder:
        assert folder.parent == home / "downloads"
        with pytest.raises(RhapsodeError) as failure, store.working("hub:sea/sailor"):
            pass
    assert "another process fetches this model" in failure.value.hint
    with store.working("hub:sea/sailor"):
        pass


@pytest.mark.parametrize("key", ["../../out", "hub:a/../../b", "/etc/passwd", "..x"])
def test_the_working_folder_never_leads_out_of_the_home(home, key):
    with store.working(key) as folder:
        assert folder.resolve().parent == (home / "downloads").resolve()
