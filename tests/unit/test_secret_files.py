"""A secret's file is whole and its owner's only, or is not there."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.errors import UserError
from exchange.secret_files import SecretPlace, make_secret, read_secret

PLACE = SecretPlace("key", "table.key_file", "EXCHANGE_TEST_KEY", "somebody makes it")


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow, as far as this process is concerned; one can be made."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_one_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert make_secret(path, PLACE)
    secret = read_secret(path, PLACE)
    assert len(secret) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert not make_secret(path, PLACE)
    assert read_secret(path, PLACE) == secret
    assert os.listdir(tmp_path) == ["key"]


def test_a_disk_that_is_full_is_told_and_leaves_no_empty_file(tmp_path: Path, full_disk: None) -> None:
    path = tmp_path / "key"
    with pytest.raises(UserError, match=r"table\.key_file = '.*key': cannot write it: File too large"):
        make_secret(path, PLACE)
    assert not path.exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write it: No such file or directory"):
        make_secret(tmp_path / "none" / "key", PLACE)
