"""The hooks' secrets come from a file of their own, and no error says one."""

from dataclasses import replace
from pathlib import Path

import pytest

from decisioning.errors import SetupError
from storage.hook_secrets import read_hook_secrets
from storage.settings import Settings, load_settings

SECRET = "correct horse battery"


def settings_with(text: str, folder: Path) -> Settings:
    (folder / "hooks.toml").write_text(text, encoding="utf-8")
    return load_settings({"NEXTMOVE_HOOK_SECRETS": "hooks.toml"}, directory=folder)


def test_each_hook_has_its_secret_and_without_a_file_none_has(tmp_path: Path) -> None:
    settings = settings_with(f'sendgrid = "{SECRET}"\n"news.mail" = "{SECRET}2"\n', tmp_path)

    assert read_hook_secrets(settings) == {"sendgrid": SECRET, "news.mail": f"{SECRET}2"}
    assert read_hook_secrets(replace(settings, hook_secrets=None)) == {}
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"sendgrid = {SECRET}", "is not TOML, must have lines like"),
        ('sendgrid = "correct horse"', "the secret of 'sendgrid' in the file"),
        (f'news.mail = "{SECRET}"', "the secret of 'news' in the file"),
        ("sendgrid = 1234567890123456", "must be a text of at least 16 signs on one line"),
        (f'sendgrid = """{SECRET}\n"""', "on one line"),
    ],
)
def test_what_is_no_secret_is_refused_by_its_name_alone(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="hook_secrets") as raised:
        read_hook_secrets(settings_with(text, tmp_path))

    assert said in raised.value.message
    assert "horse" not in raised.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = load_settings({"NEXTMOVE_HOOK_SECRETS": "gone.toml"}, directory=tmp_path)
    with pytest.raises(SetupError, match=r"gone\.toml of the setting hook_secrets cannot be read"):
        read_hook_secrets(settings)
