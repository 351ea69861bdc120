"""`turnout release`: what it says where there is nothing, and one JSON document where a script asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handlers.errors import InvalidInput
from scripts.commands.release import app


def invoke(store: Path, *words: str) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, list(words), env={"TURNOUT_RELEASES_DIR": str(store)})
    return result.exit_code, result.stdout, result.exception


def test_an_empty_store_is_no_error_and_says_what_to_do(tmp_path: Path) -> None:
    code, text, _ = invoke(tmp_path, "list")
    assert code == 0
    assert "turnout build digits" in text


def test_json_is_one_document(tmp_path: Path) -> None:
    code, text, _ = invoke(tmp_path, "list", "--json")
    assert code == 0
    assert json.loads(text) == {"releases": []}


@pytest.mark.parametrize("words", [("show", "nothing"), ("compare", "a", "b")])
def test_an_unknown_release_is_an_error_that_names_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    code, _, error = invoke(tmp_path, *words)
    assert code == 1
    assert isinstance(error, InvalidInput)
    assert repr(words[1]) in str(error)
