"""The security page is made of what tests say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost_docs import security

from docs.examples import REPOSITORY


def write_test(root: Path, docstring: str) -> None:
    folder = root / "host" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    text = f'async def test_it() -> None:\n    """{docstring}"""\n'
    (folder / "test_it.py").write_text(text, "utf-8")


def test_an_id_in_a_docstring_is_found(tmp_path: Path) -> None:
    """File, name and fact of the test stand beside the id."""
    write_test(tmp_path, "A bad origin is answered 403 (T1).")
    found = security.covering_tests(tmp_path)
    assert found == {"T1": [("host/tests/test_it.py", "test_it", "A bad origin is answered 403 (T1).")]}


def test_a_longer_id_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    """Two ids that begin alike are two ids."""
    write_test(tmp_path, "A large body is answered 413 (T10).")
    assert set(security.covering_tests(tmp_path)) == {"T10"}


def test_an_id_without_a_test_fails_the_build(tmp_path: Path) -> None:
    """The message names every id that nothing covers."""
    write_test(tmp_path, " ".join(security.REQUIREMENTS.keys() - {"L2"}))
    with pytest.raises(LookupError, match="no test carries these security ids in its docstring: L2"):
        security.section(tmp_path)


def test_every_requirement_has_a_test() -> None:
    """The project's own page can be built."""
    page = security.section(REPOSITORY)
    assert [name for name in security.REQUIREMENTS if f"## {name}\n" not in page] == []


def test_each_test_states_a_fact() -> None:
    """An id alone tells a reader nothing."""
    covered = security.covering_tests(REPOSITORY)
    assert [name for tests in covered.values() for _, name, fact in tests if len(fact.split()) < 3] == []
