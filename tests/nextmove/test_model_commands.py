"""`nextmove model add` over a shop whose champion has the same columns."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from decisioning.bundle import Bundle
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.settings import Settings
from tests.nextmove.test_cli import Said, nextmove, refused

__all__ = ["nextmove"]


@pytest.fixture
def home(shop_settings: Settings, tmp_path: Path) -> Path:
    shutil.copytree(shop_settings.home, tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def champion(shop_settings: Settings) -> Bundle:
    with closing(BlobStore(shop_settings)) as blobs:
        sha256 = blobs.pointer(bundle_pointer("simulated"))
        assert sha256 is not None
        return load_bundle(blobs, sha256)


def test_a_model_is_added_with_the_columns_of_the_champion(
    nextmove: Callable[..., Said], home: Path, champion: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "again.onnx").write_bytes(champion.graph)
    said = nextmove(
        "model", "add", str(tmp_path / "again.onnx"), "--features", "champion", "--trained-until", "2025-10-01",
        "--json", home=home,
    )  # fmt: skip
    assert said.code == 0, said.err
    added = json.loads(said.out)
    assert int(added["version"]) > int(champion.manifest.version)
    assert added["outputs"] == list(champion.manifest.outputs)
    assert added["trained_until"] == "2025-10-02T00:00:00+00:00", "a date counts to its end"
    assert "next: nextmove evaluate --dataset simulated" in said.err


@pytest.mark.parametrize(
    ("file", "until", "features", "says"),
    [
        ("nowhere.onnx", "1d", "champion", "nowhere.onnx cannot be read: No such file"),
        ("text.onnx", "1d", "champion", "the file is no ONNX model"),
        ("text.onnx", "yesterday", "champion", "--trained-until is 'yesterday', must be a time ago"),
        ("text.onnx", "2999-01-01", "champion", "must not be in the future"),
        ("text.onnx", "1d", "runner-up", "has no model 'runner-up', must be champion, challenger, or a version: 1"),
        ("text.onnx", "1d", "my.yaml", "my.yaml cannot be read as a list of features"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    nextmove: Callable[..., Said],
    shop_settings: Settings,
    tmp_path: Path,
    file: str,
    until: str,
    features: str,
    says: str,
) -> None:
    (tmp_path / "text.onnx").write_text("words")
    arguments = ("model", "add", str(tmp_path / file), "--features", features, "--trained-until", until)
    assert says in refused(nextmove(*arguments, home=shop_settings.home))
