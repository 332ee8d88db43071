import json

import pytest

from rhapsode.catalogue.licences import LICENCES, NotAccepted, Terms, is_accepted, licence_named, record, require
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.core.errors import RhapsodeError

GEMMA = Terms(LICENCES["gemma"], b"the terms", "/place/of/terms")


def test_a_permissive_licence_asks_nobody(home):
    require(Terms(LICENCES["mit"], None, "there"), accept=())
    assert not home.exists()


def test_any_other_licence_is_refused_with_the_way_to_accept_it(home):
    with pytest.raises(RhapsodeError, match=r"Gemma Terms of Use, has not been accepted; it asks: no use") as failure:
        require(GEMMA, accept=())
    for words in ("/place/of/terms", "--accept gemma", "RHAPSODE_ACCEPT_LICENCES=gemma"):
        assert words in failure.value.hint
    assert not home.exists()


@pytest.mark.parametrize("way", ["command line", "environment", "person"])
def test_it_is_accepted_once_by_name(home, monkeypatch, way):
    if way == "environment":
        monkeypatch.setenv("RHAPSODE_ACCEPT_LICENCES", "llama3.2, Gemma")
    if way == "person":
        record(GEMMA)
    require(GEMMA, accept={"gemma"} if way == "command line" else ())
    monkeypatch.delenv("RHAPSODE_ACCEPT_LICENCES", raising=False)
    require(GEMMA, accept=())
    entry = json.loads((home / "licences.json").read_text(encoding="utf-8"))["gemma"]
    assert list(entry["texts"]) == [GEMMA.sha256]
    assert entry["texts"][GEMMA.sha256].startswith("20")


def test_another_name_is_no_acceptance():
    with pytest.raises(NotAccepted) as refusal:
        require(GEMMA, accept={"llama3.2", "gemma2"})
    assert refusal.value.terms == GEMMA


def test_a_changed_text_is_asked_for_again():
    require(GEMMA, accept={"gemma"})
    changed = GEMMA._replace(text=b"the terms, made harder")
    assert not is_accepted(changed)
    with pytest.raises(RhapsodeError, match="has changed since it was accepted"):
        require(changed, accept=())
    require(changed, accept={"gemma"})
    require(GEMMA, accept=())


def test_a_damaged_record_means_that_nothing_is_accepted(home):
    require(GEMMA, accept={"gemma"})
    for damage in ("{", "[]", '{"gemma": 1}', '{"gemma": {"texts": 3}}'):
        (home / "licences.json").write_text(damage, encoding="utf-8")
        assert not is_accepted(GEMMA)
        with pytest.raises(RhapsodeError):
            require(GEMMA, accept=())
        require(GEMMA, accept={"gemma"})


def test_licences_of_cards_that_nobody_knows_are_not_permissive():
    found = licence_named("sailor-2", url="https://example.org/sailor")
    assert found is not None
    assert (found.id, found.is_permissive, found.url) == ("sailor-2", False, "https://example.org/sailor")
    assert licence_named("apache-2.0") is LICENCES["apache-2.0"]
    assert licence_named(None) is None


def test_every_licence_of_the_catalogue_says_what_it_asks():
    assert {entry.licence_id for entry in CATALOGUE.values()} == set(LICENCES)
    for name, licence in LICENCES.items():
        assert licence.id == name
        assert licence.url.startswith("https://")
        assert licence.asks
