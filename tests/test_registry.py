"""What installed packages offer is found by name, and what is wrong with it is told in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pytest

from conftest import Offer
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.registry import Registry

GROUP = "deepmmsearch.greetings"
GREETINGS: Registry[Callable[[], str]] = Registry(GROUP, "greeting", callable, "a function")


@runtime_checkable
class Named(Protocol):
    name: str


def test_what_a_package_offers_is_found_once_it_is_installed(offer: Offer) -> None:
    """Also after the path was scanned without it."""
    assert GREETINGS.names() == ()
    folder = offer(GROUP, **{"good-day": "theirs:greet", "bye": "theirs:leave"})
    (folder / "theirs.py").write_text("def greet():\n    return 'good day'\n\n\ndef leave():\n    return 'bye'\n")
    assert GREETINGS.names() == ("bye", "good-day")
    assert GREETINGS.find("good-day")() == "good day"
    assert {name: found() for name, found in GREETINGS.all().items()} == {"bye": "bye", "good-day": "good day"}
    assert GREETINGS.origin("bye") == "their-package"


def test_a_package_that_is_gone_is_not_found(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(GROUP, a="theirs:a")
    assert GREETINGS.names() == ("a",)
    monkeypatch.undo()
    assert GREETINGS.names() == ()


def test_unknown_names_offer_the_nearest(offer: Offer) -> None:
    offer(GROUP, hello="theirs:hello")
    with pytest.raises(UnknownName, match=r"^Unknown greeting 'helo'\. Did you mean 'hello'\? Known: hello\.$"):
        GREETINGS.find("helo")


def test_without_entry_points_the_installation_is_to_blame() -> None:
    with pytest.raises(UserError, match="No greeting is installed: the package's entry points are missing"):
        GREETINGS.find("hello")


def test_two_packages_with_one_name_are_an_error(offer: Offer) -> None:
    offer(GROUP, package="one", hello="one:hello")
    offer(GROUP, package="same", hello="one:hello")
    assert GREETINGS.names() == ("hello",), "one that is found twice is one"
    offer(GROUP, package="two", hello="two:hello")
    said = r"Two packages offer the greeting 'hello': .*two \(two:hello\).*\. Uninstall one of them\."
    for ask in (GREETINGS.names, lambda: GREETINGS.find("hello"), GREETINGS.all):
        with pytest.raises(UserError, match=said):
            ask()


def test_one_that_fails_takes_no_other_down(offer: Offer) -> None:
    folder = offer(GROUP, exploding="theirs_exploding:x", gone="theirs:gone", hello="theirs:hello")
    (folder / "theirs_exploding.py").write_text("raise RuntimeError('boom')\n")
    (folder / "theirs.py").write_text("def hello():\n    return 'hello'\n")
    said = r"^The greeting 'exploding' of their-package cannot be imported \(RuntimeError: boom\)\.$"
    with pytest.raises(UserError, match=said):
        GREETINGS.find("exploding")
    with pytest.raises(UserError, match=r"'gone' of their-package cannot be imported \(AttributeError: .*gone"):
        GREETINGS.find("gone")
    assert GREETINGS.find("hello")() == "hello"


def test_what_is_not_of_the_form_is_refused(offer: Offer) -> None:
    folder = offer(GROUP, number="theirs:NUMBER", named="theirs:NAMED")
    (folder / "theirs.py").write_text("class Made:\n    name = 'x'\n\n\nNUMBER, NAMED = 3, Made()\n")
    with pytest.raises(UserError, match=r"^The greeting 'number' of their-package is not a function\.$"):
        GREETINGS.find("number")
    named: Registry[Named] = Registry(GROUP, "greeting", Named, "something with a name")
    assert named.find("named").name == "x"
    with pytest.raises(UserError, match=r"'number' of their-package is not something with a name"):
        named.find("number")


def test_code_is_run_only_where_it_is_allowed(offer: Offer) -> None:
    folder = offer(GROUP, hello="theirs:hello")
    (folder / "their_own.py").write_text("def greet():\n    return 'own'\n\n\nNUMBER = 3\n")
    with pytest.raises(UnknownName, match="Unknown greeting 'their_own:greet'"):
        GREETINGS.find("their_own:greet")
    assert "their_own" not in sys.modules
    assert GREETINGS.find("their_own:greet", code=True)() == "own"
    with pytest.raises(UserError, match=r"^The greeting 'their_own:NUMBER' is not a function\.$"):
        GREETINGS.find("their_own:NUMBER", code=True)
    for wrong in ("their_own:gone", "their_missing:x", ":", "a:", ":b", "a b:c", "their_own:greet:x"):
        with pytest.raises(UserError, match=r"cannot be imported \(.*\)\. Is it installed, or on PYTHONPATH\?$"):
            GREETINGS.find(wrong, code=True)
    with pytest.raises(UserError, match=r"'s3:' cannot be imported \(it is not written as module:name\)"):
        GREETINGS.find("s3:", code=True)
    with pytest.raises(UserError, match=r"^The greeting 'https://h/x' is an address, where a name or module:name is"):
        GREETINGS.find("https://me:pw@h/x", code=True)
