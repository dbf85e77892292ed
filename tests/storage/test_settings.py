"""Settings come from the environment and one file, and a misspelt one is refused."""

from pathlib import Path

import pytest

from decisioning.errors import SetupError
from storage.settings import Settings, load_settings, prepare_home


def test_defaults_put_everything_under_the_working_directory(tmp_path: Path) -> None:
    settings = load_settings({"PATH": "/bin"}, directory=tmp_path)

    assert settings.home == tmp_path / ".nextmove"
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/.nextmove/mlflow.db"
    assert settings.catalog_dir.name == "catalog"


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "nextmove.toml").write_text('domain = "hillstrom"\npointer_poll_seconds = 1\n')

    settings = load_settings({"NEXTMOVE_DOMAIN": "simulated"}, directory=tmp_path)

    assert (settings.domain, settings.pointer_poll_seconds) == ("simulated", 1.0)


def test_text_from_the_environment_becomes_the_settings_type(tmp_path: Path) -> None:
    environ = {"NEXTMOVE_POINTER_POLL_SECONDS": "0.5", "NEXTMOVE_REQUIRE_SERVICES": "1", "NEXTMOVE_DATA": "a.csv"}

    settings = load_settings(environ, directory=tmp_path)

    assert (settings.pointer_poll_seconds, settings.require_services) == (0.5, True)
    assert settings.data == tmp_path / "a.csv"


@pytest.mark.parametrize(
    ("environ", "toml", "expected"),
    [
        ({"NEXTMOVE_HOMES": "/x"}, "", "NEXTMOVE_HOMES in the environment is not a setting, must be one of"),
        ({}, "hoem = '/x'", "hoem in .*nextmove.toml is not a setting, must be one of .*home"),
        ({"NEXTMOVE_ONLINE_STORE": "mysql"}, "", "online_store in the environment is 'mysql'"),
        ({"NEXTMOVE_POINTER_POLL_SECONDS": "0"}, "", "pointer_poll_seconds in the environment is '0'"),
        ({"NEXTMOVE_POINTER_POLL_SECONDS": "soon"}, "", "is 'soon'"),
        ({"NEXTMOVE_DOMAIN": "../etc"}, "", "domain in the environment"),
        ({"NEXTMOVE_ALLOWED_ORIGINS": "*"}, "", r"allowed_origins in the environment is '\*'"),
        ({"NEXTMOVE_ALLOWED_ORIGINS": "https://a.example/"}, "", "allowed_origins in the environment"),
        ({"NEXTMOVE_HOME": ""}, "", "home in the environment is '': must be a path"),
        ({}, "home = 3", "home in .*nextmove.toml is 3"),
        ({}, "home = [", "cannot be read as TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(environ: dict[str, str], toml: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "nextmove.toml").write_text(toml)

    with pytest.raises(SetupError, match=expected) as raised:
        load_settings(environ, directory=tmp_path)

    assert "\n" not in raised.value.message


ISSUER = {"NEXTMOVE_JWT_ISSUER": "https://login.example", "NEXTMOVE_JWT_AUDIENCE": "nextmove"}


@pytest.mark.parametrize(
    ("place", "expected"),
    [("keys.json", "{directory}/keys.json"), ("https://login.example/keys", "https://login.example/keys")],
)
def test_an_issuer_s_keys_are_in_a_file_or_at_an_https_address(place: str, expected: str, tmp_path: Path) -> None:
    settings = load_settings({**ISSUER, "NEXTMOVE_JWT_JWKS": place}, directory=tmp_path)

    assert settings.jwt_jwks == expected.format(directory=tmp_path)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (ISSUER, "jwt_jwks must be set too"),
        ({"NEXTMOVE_JWT_JWKS": "keys.json"}, "jwt_issuer, jwt_audience must be set too"),
        ({**ISSUER, "NEXTMOVE_JWT_JWKS": "http://login.example/keys"}, "must be a file or an https address"),
        ({**ISSUER, "NEXTMOVE_JWT_JWKS": ""}, "jwt_jwks in the environment is ''"),
    ],
)
def test_tokens_are_checked_in_every_respect_or_not_taken(
    environ: dict[str, str], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match=expected):
        load_settings(environ, directory=tmp_path)


def test_secrets_are_shown_neither_in_errors_nor_in_the_settings_themselves(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as raised:
        load_settings({"NEXTMOVE_DRAW_SECRET": "short"}, directory=tmp_path)

    assert "short" not in raised.value.message
    assert "s3cret" not in repr(Settings(draw_secret="s3cret" * 4, redis_url="redis://:s3cret@h"))


def test_home_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "deep" / "home")

    prepare_home(settings)
    prepare_home(settings)

    assert settings.home.stat().st_mode & 0o077 == 0
    assert settings.bundles_dir.is_dir()


@pytest.mark.parametrize("home", ["file", "file/below", "/proc/nextmove"])
def test_a_home_that_cannot_be_used_is_one_clear_line(home: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match=r"state directory .* cannot be used") as raised:
        prepare_home(Settings(home=tmp_path / home))

    assert "\n" not in raised.value.message
