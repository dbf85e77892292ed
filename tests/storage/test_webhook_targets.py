"""Where moments are sent comes from a file of its own, and no error says a secret."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from decisioning.errors import SetupError
from storage.settings import Settings, load_settings
from storage.webhook_targets import WebhookTarget, read_webhooks

KEY = b"correct horse battery staple ..."
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
URL = "https://crm.example.com/moments"


def settings_with(text: str, folder: Path) -> Settings:
    (folder / "webhooks.toml").write_text(text, encoding="utf-8")
    return load_settings({"NEXTMOVE_WEBHOOKS": "webhooks.toml"}, directory=folder)


def test_each_receiver_has_an_address_and_a_secret_and_without_a_file_there_are_none(tmp_path: Path) -> None:
    own = f'[own]\nurl = "http://localhost:8000/"\nsecret = "{SECRET}"\nallow_private = true\n'
    settings = settings_with(f'[crm]\nurl = "{URL}"\nsecret = "{SECRET}"\n{own}', tmp_path)

    targets = read_webhooks(settings)
    assert targets == {
        "crm": WebhookTarget(URL, KEY),
        "own": WebhookTarget("http://localhost:8000/", KEY, allow_private=True),
    }
    assert "horse" not in repr(targets)
    assert read_webhooks(replace(settings, webhooks=None)) == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('url = "http://crm.example.com/"', "must be https"),
        ('url = "ftp://crm.example.com/"\nallow_private = true', "must be https"),
        ('url = "https:///moments"', "must name a host"),
        ('url = "https://ann:pw@crm.example.com/"', "without a user"),
        ('url = "https://crm.example.com/#top"', "a fragment"),
        ('url = "https://crm.example.com:99999/"', "is no address"),
        ('url = "https://[::1/"', "is no address"),
        ('url = "https://bücher.example/"', "in ASCII"),
        ('url = "https://crm.example.com/a b"', "in ASCII"),
        ("url = 7", "must be an address"),
        ("", "must be an address"),
        (f'url = "{URL}"\nallow_private = "yes"', "true or false"),
        (f'url = "{URL}"\nretries = 3', "retries is not known"),
    ],
)
def test_a_wrong_address_is_named_with_what_it_must_be(entry: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"\[crm\] in the file .*webhooks\.toml") as raised:
        read_webhooks(settings_with(f'[crm]\nsecret = "{SECRET}"\n{entry}\n', tmp_path))
    assert said in raised.value.message
    assert SECRET not in raised.value.message


@pytest.mark.parametrize("secret", ["correct horse", "whsec_horse!", "whsec_aG9yc2U=", f"whsec_{SECRET[6:] * 3}", ""])
def test_a_wrong_secret_is_refused_without_saying_it(secret: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="secret must be whsec_ and 24 to 64 bytes") as raised:
        read_webhooks(settings_with(f'[crm]\nurl = "{URL}"\nsecret = "{secret}"\n', tmp_path))
    assert "horse" not in raised.value.message


def test_a_file_that_is_no_toml_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is not TOML"):
        read_webhooks(settings_with("[crm\n", tmp_path))
    with pytest.raises(SetupError, match=r"\[crm\].*must be a table"):
        read_webhooks(settings_with('crm = "x"\n', tmp_path))
    with pytest.raises(SetupError, match=r"gone\.toml of the setting webhooks cannot be read"):
        read_webhooks(load_settings({"NEXTMOVE_WEBHOOKS": "gone.toml"}, directory=tmp_path))
