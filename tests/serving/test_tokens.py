"""Tokens of an issuer: what is taken, what never is, and the keys behind them."""

import base64
import hashlib
import hmac
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from decisioning.errors import SetupError
from serving.http.problems import Unauthorized
from serving.http.signing_keys import SigningKeys, keys_in, read_place
from serving.http.tokens import ALGORITHMS, LEEWAY, Claims, Tokens
from tests.serving.tokens import AUDIENCE, ISSUER, RSA_KEY, SIGNERS, jwks, token

KEYS = keys_in(jwks())
TOKENS = Tokens(issuer=ISSUER, audience=AUDIENCE, key_of=KEYS.get)


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def hmac_with_the_public_key() -> str:
    """What a careless service takes for signed: the public key, used as if it were a shared secret."""
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = jwt.decode(token(), options={"verify_signature": False})
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa'})}.{encoded(claims)}"
    signature = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_token_says_who_may_do_what_and_where(signer: str) -> None:
    claims = TOKENS.claims_of(token(signer, scope="openid decide marketing", market="de"))
    assert claims == Claims("ann", frozenset({"decide", "marketing"}), "de")


def test_a_token_without_scopes_or_market_has_none() -> None:
    assert TOKENS.claims_of(token(scope=None)) == Claims("ann", frozenset(), None)


def test_clocks_may_differ_by_less_than_the_leeway() -> None:
    assert TOKENS.claims_of(token(exp=datetime.now(UTC) - LEEWAY / 3, nbf=datetime.now(UTC) + LEEWAY / 3))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: token(exp=ago(minutes=1)), "has expired"),
        (lambda: token(aud="another"), "its aud"),
        (lambda: token(iss="https://evil.example"), "its iss"),
        (lambda: token(nbf=ago(hours=-1)), "its time has not come"),
        (lambda: token(exp=None), "must have exp, iss, aud and sub"),
        (lambda: token(aud=None), "must have exp, iss, aud and sub"),
        (lambda: token(iss=None), "must have exp, iss, aud and sub"),
        (lambda: token(sub=None), "must have exp, iss, aud and sub"),
        (lambda: token(sub=""), "its sub"),
        (lambda: token(sub="a\nb"), "its sub"),
        (lambda: token(sub="a" * 257), "its sub"),
        (lambda: token(scope=["decide"]), "its scope must be text"),
        (lambda: token(market=7), "its market must be text"),
        (lambda: token(market=""), "its market must be text"),
        (lambda: token(kid="other"), "its kid"),
        (lambda: token(kid=None), "its kid"),
        (lambda: token("ec", kid="rsa"), "its alg"),
        (lambda: token("rsa", algorithm="RS512"), "its alg"),
        (lambda: token("rsa", key=rsa.generate_private_key(public_exponent=65537, key_size=2048)), "its signature"),
        (lambda: token("rsa", key="", algorithm="none"), "its alg"),
        (hmac_with_the_public_key, "its alg"),
        (lambda: token()[:-2], "its signature|cannot be read"),
    ],
)
def test_a_token_that_is_not_right_is_refused_in_words_that_do_not_repeat_it(bad: Any, said: str) -> None:
    refused = bad()
    with pytest.raises(Unauthorized, match=said) as raised:
        TOKENS.claims_of(refused)
    assert refused.rpartition(".")[0] not in raised.value.message
    assert raised.value.reason in {"token", "expired"}


def test_a_shared_secret_is_refused_even_where_it_came_among_the_issuer_s_keys() -> None:
    shared = jwt.PyJWK({"kty": "oct", "k": encoded("s" * 40), "kid": "rsa"})
    tokens = Tokens(issuer=ISSUER, audience=AUDIENCE, key_of=lambda _: shared)
    with pytest.raises(Unauthorized, match="its alg"):
        tokens.claims_of(token(key=shared.key, algorithm="HS256"))


def test_only_signatures_that_the_issuer_alone_can_make_are_on_the_list() -> None:
    assert set(ALGORITHMS) == {"RS256", "ES256", "EdDSA"}


@given(st.text() | st.lists(st.text(alphabet='abcAB019-_=+/{}"', max_size=40), max_size=5).map(".".join))
def test_no_text_at_all_raises_anything_else(text: str) -> None:
    with pytest.raises(Unauthorized):
        TOKENS.claims_of(text)


def test_a_header_nested_past_reason_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 100_000).rstrip(b"=").decode()
    with pytest.raises(Unauthorized):
        TOKENS.claims_of(f"{deep}.e30.e30")


def test_keys_that_are_not_for_our_signatures_are_passed_over() -> None:
    good = json.loads(jwks("rsa"))["keys"][0]
    others = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        good | {"kid": "for-encryption", "use": "enc"},
        good | {"kid": "another-algorithm", "alg": "RS512"},
        {name: value for name, value in good.items() if name != "kid"},
        {"kty": "moon", "kid": "moon"},
        "text",
    ]
    assert keys_in(json.dumps({"keys": [*others, good]}).encode()).keys() == {"rsa"}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"7", b'{"keys": 7}', b'{"keys": []}', b"\xff", b"[" * 100_000])
def test_what_is_no_set_of_keys_is_refused(content: bytes) -> None:
    with pytest.raises(SetupError):
        keys_in(content)


def test_a_fetch_that_fails_keeps_the_last_known_keys_and_says_so() -> None:
    answers: list[Any] = [jwks("rsa"), OSError("no route"), b"<html>", jwks("ec")]

    def read(_: str) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    keys = SigningKeys("https://login.example/keys", read=read)
    keys.check()
    assert (keys.find("rsa") is not None, keys.problem) == (True, None)
    for said in ("no route", "not a JWK Set"):
        keys.check()
        assert keys.find("rsa") is not None
        assert said in (keys.problem or "")
    keys.check()
    assert (keys.find("rsa"), keys.find("ec") is not None, keys.problem) == (None, True, None)


def test_an_unknown_key_is_fetched_soon_in_another_thread_and_not_by_the_caller() -> None:
    threads: list[str] = []
    fetched = threading.Event()

    def read(_: str) -> bytes:
        threads.append(threading.current_thread().name)
        fetched.set()
        return jwks("rsa")

    keys = SigningKeys("somewhere", read=read, every=3600.0, at_most_every=0.0)
    keys.start()
    try:
        assert keys.find("rsa") is None
        assert fetched.wait(10)
    finally:
        keys.stop()
    assert set(threads) == {"signing-keys"}


def test_strangers_who_name_unknown_keys_cannot_make_us_fetch_again_and_again() -> None:
    once, again = threading.Event(), threading.Event()

    def read(_: str) -> bytes:
        (again if once.is_set() else once).set()
        return jwks("rsa")

    keys = SigningKeys("somewhere", read=read, every=3600.0, at_most_every=3600.0)
    keys.start()
    try:
        keys.find("x")
        assert once.wait(10)
        keys.find("x")
        assert not again.wait(0.3)
    finally:
        keys.stop()


def test_the_set_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks())
    keys = SigningKeys(str(tmp_path / "keys.json"))
    keys.check()
    assert keys.find("ed") is not None
    missing = SigningKeys(str(tmp_path / "none.json"))
    missing.check()
    assert "none.json" in (missing.problem or "")


def test_an_address_is_read_and_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    from email.message import Message
    from io import BytesIO
    from urllib.request import HTTPSHandler
    from urllib.response import addinfourl

    def https_open(_: HTTPSHandler, request: Any) -> addinfourl:
        headers = Message()
        headers["Location"] = "http://127.0.0.1/keys"
        moved = request.full_url.endswith("/moved")
        answer = addinfourl(BytesIO(jwks()), headers, request.full_url, 302 if moved else 200)
        answer.msg = ""
        return answer

    monkeypatch.setattr(HTTPSHandler, "https_open", https_open)
    assert read_place("https://login.example/keys") == jwks()
    with pytest.raises(SetupError, match="it redirects"):
        read_place("https://login.example/moved")
    monkeypatch.setattr("serving.http.signing_keys.LARGEST", 10)
    with pytest.raises(SetupError, match="more than 10 bytes"):
        read_place("https://login.example/keys")
