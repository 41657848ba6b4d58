"""docs/semantics.md is what the markers of the tests say."""

from __future__ import annotations

import pytest

from tests.semantics import PAGE, THEMES, Mark, marks, page


def mark(what: str, case: str = "a case", test: str = "test_it") -> Mark:
    return Mark("order", case, what, "tests/unit/test_x.py", test)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(marks()), "run `make docs`"


def test_it_names_every_test_that_pytest_finds_with_the_marker(request: pytest.FixtureRequest) -> None:
    items = [item for item in request.session.items if item.get_closest_marker("semantics")]
    found = {item.nodeid.partition("[")[0] for item in items}
    assert found <= {f"{each.path}::{each.test}" for each in marks()}
    assert {each.theme for each in marks()} == THEMES.keys()


def test_tests_of_one_case_share_a_line() -> None:
    (line,) = [each for each in page([mark("this"), mark("", test="test_too")]).splitlines() if "a case" in each]
    assert line == "| a case | this | [`it`](../tests/unit/test_x.py)<br>[`too`](../tests/unit/test_x.py) |"


@pytest.mark.parametrize("found", [[mark("")], [mark("this"), mark("that")]], ids=["no words", "two kinds of words"])
def test_a_case_says_in_one_way_what_we_do(found: list[Mark]) -> None:
    with pytest.raises(ValueError, match="a case"):
        page(found)
