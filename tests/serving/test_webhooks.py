"""Calls to real receivers on loopback: signed, bounded, to public addresses alone."""

import asyncio
import re
import socket
import time
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from serving.adapters.addresses import is_public
from serving.adapters.webhooks import SignedWebhooks, signature
from serving.ports import Received
from storage.webhook_targets import WebhookTarget
from tests.builders import NOW
from tests.serving.receivers import KEY, SECRET, Receiver, receiver, self_signed

BODY = b'{"moment_id": "m-1", "name": "Zo\xc3\xab"}'


def send(target: WebhookTarget, *, body: bytes = BODY, total_seconds: float = 15.0, **given: Any) -> Received:
    async def once() -> Received:
        webhooks = SignedWebhooks({"crm": target}, total_seconds=total_seconds, **given)
        try:
            return await webhooks.send("crm", "m-1", body, now=NOW)
        finally:
            await webhooks.close()

    return asyncio.run(once())


def test_a_call_is_signed_as_the_specification_says() -> None:
    with receiver() as crm:
        assert send(crm.target()) == Received("delivered", "answered 200")
        assert crm.got == [{"moment_id": "m-1", "name": "Zoë"}]
        [headers] = crm.headers
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("m-1", str(int(NOW.timestamp())))
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{crm.port}"


def test_the_guide_s_own_check_lets_in_what_we_sign_and_nothing_else() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "moments.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", guide, re.DOTALL)
    assert code is not None
    told: dict[str, Any] = {}
    exec(code[1], told)
    headers = {"webhook-id": "m-1", "webhook-timestamp": str(int(NOW.timestamp()))}
    headers["webhook-signature"] = signature(KEY, "m-1", NOW, BODY)
    assert told["verified"](headers, BODY, SECRET)
    assert not told["verified"](headers, BODY + b" ", SECRET)


def test_a_receiver_with_another_secret_refuses_it() -> None:
    with receiver() as crm:
        assert send(replace(crm.target(), secret=b"x" * 32)) == Received("failed", "answered 401")
        assert crm.got == []


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (204, Received("delivered", "answered 204")),
        (410, Received("gone", "answered 410")),
        (404, Received("failed", "answered 404")),
        (500, Received("failed", "answered 500")),
        ((503, {"retry-after": "90"}), Received("failed", "answered 503", timedelta(seconds=90))),
        (
            (429, {"retry-after": format_datetime(NOW + timedelta(minutes=3))}),
            Received("failed", "answered 429", timedelta(minutes=3)),
        ),
        ((503, {"retry-after": "soon"}), Received("failed", "answered 503")),
        ((503, {"retry-after": "9" * 5000}), Received("failed", "answered 503")),
    ],
)
def test_what_it_answers_is_understood(answer: Any, received: Received) -> None:
    with receiver(answer) as crm:
        assert send(crm.target()) == received


def test_a_redirect_is_a_failure_and_is_not_followed() -> None:
    with receiver() as elsewhere, receiver((302, {"location": elsewhere.url})) as crm:
        assert send(crm.target()) == Received("failed", "answered 302")
        assert elsewhere.got == []


def test_who_hangs_is_left_after_a_bounded_time() -> None:
    with receiver("hang") as crm:
        assert send(crm.target(), total_seconds=0.2) == Received("failed", "no answer within 0.2 s")


def test_who_sends_nothing_more_is_left_too() -> None:
    with receiver("hang") as crm:
        assert send(crm.target(), read_seconds=0.2).result == "failed"


def test_who_closes_has_failed() -> None:
    with receiver("close") as crm:
        received = send(crm.target())
    assert (received.result, received.said != "") == ("failed", True)


def test_nobody_listening_is_a_failure() -> None:
    with receiver() as crm:
        target = crm.target()
    assert send(target).result == "failed"


def test_of_a_long_answer_nothing_is_read() -> None:
    with receiver("endless") as crm:
        assert send(crm.target()).result == "delivered"
        deadline = time.monotonic() + 10
        before = -1
        while crm.bytes_sent != before and time.monotonic() < deadline:
            before = crm.bytes_sent
            time.sleep(0.2)
        assert crm.bytes_sent < 20_000_000  # what fits into the sockets' buffers


def test_an_address_that_is_not_public_is_refused_before_anything_is_sent() -> None:
    with receiver() as crm:
        received = send(crm.target(allow_private=False))
        assert received.result == "failed"
        assert "127.0.0.1, which is not public" in received.said
        assert crm.got == []


def looked_up(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """What every name leads to; the names that were asked for."""
    asked: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return list(addresses)

    monkeypatch.setattr("serving.adapters.webhooks._lookup", lookup)
    return asked


def test_one_address_that_is_not_public_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up(monkeypatch, "93.184.216.34", "::ffff:169.254.169.254")
    received = send(WebhookTarget("https://crm.example.com/", KEY))
    assert "::ffff:169.254.169.254, which is not public" in received.said


def test_the_call_goes_to_the_address_that_was_checked_with_the_name_as_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as crm:
        asked = looked_up(monkeypatch, "127.0.0.2", "127.0.0.1")  # nobody listens on the first
        url = f"http://crm.example.com:{crm.port}/moments?tenant=7"
        assert send(crm.target(url=url)).result == "delivered"
        assert asked == ["crm.example.com"]
        assert crm.headers[0]["host"] == f"crm.example.com:{crm.port}"


@pytest.mark.parametrize(("name", "result"), [("crm.example.com", "delivered"), ("other.example.com", "failed")])
def test_a_certificate_must_be_of_the_name_and_not_of_the_address(
    name: str, result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed("crm.example.com", tmp_path)
    monkeypatch.setattr("certifi.where", lambda: str(certificate))
    looked_up(monkeypatch, "127.0.0.1")
    with receiver(certificate=certificate) as crm:
        received = send(crm.target(url=f"https://{name}:{crm.port}/moments"))
    assert received.result == result, received.said


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with receiver() as crm:
        assert send(crm.target()).result == "delivered"


def test_a_name_that_nobody_knows_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr("serving.adapters.webhooks._lookup", unknown)
    assert send(WebhookTarget("https://crm.example.com/", KEY)) == Received("failed", "Name or service not known")


def test_a_look_up_that_hangs_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = Receiver()

    def hangs(host: str, port: int) -> list[str]:
        hold.released.wait(60)
        return []

    monkeypatch.setattr("serving.adapters.webhooks._lookup", hangs)
    try:
        assert send(hold.target(), total_seconds=0.2) == Received("failed", "no answer within 0.2 s")
    finally:
        hold.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
        "255.255.255.255", "224.0.0.1", "192.0.0.192", "168.63.129.16", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "::ffff:127.0.0.1", "::7f00:1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_what_is_not_public_is_known_in_every_form(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_what_is_public_is_not_refused(address: str) -> None:
    assert is_public(address)
