"""Receivers of webhooks on this machine: real servers, which check signatures, or misbehave."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from storage.webhook_targets import WebhookTarget

KEY = b"a secret of thirty-two bytes ..."
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


def verified(headers: Any, body: bytes, key: bytes = KEY) -> bool:
    """As a receiver checks it that knows the specification and nothing of us."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}"
    expected = base64.b64encode(hmac.digest(key, signed.encode(), hashlib.sha256)).decode()
    given = [each.partition(",") for each in headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(said, expected) for version, _, said in given)


class Receiver:
    """A server on loopback. It answers one after the other of `answers`, then 200.

    An answer is a status; a status and headers; or `hang`, `close`, `endless` (which announces and sends 100 MB).
    """

    def __init__(self, *answers: Any, certificate: Path | None = None) -> None:
        self.answers = list(answers)
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        self.bytes_sent = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not verified(self.headers, body):
                    self.send_error(401)
                    return
                receiver.got.append(json.loads(body))
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver._answer(self, receiver.answers.pop(0) if receiver.answers else 200)

            def do_GET(self) -> None:
                receiver.got.append({"followed": self.path})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/moments"

    def target(self, *, allow_private: bool = True, url: str | None = None) -> WebhookTarget:
        return WebhookTarget(url or self.url, KEY, allow_private)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, call: BaseHTTPRequestHandler, answer: Any) -> None:
        if answer == "close":
            call.connection.shutdown(socket.SHUT_RDWR)
        elif answer == "hang":
            self.released.wait(60)
        elif answer == "endless":
            call.send_response(200)
            call.send_header("content-length", str(100_000_000))
            call.end_headers()
            try:
                for _ in range(1000):
                    call.wfile.write(b" " * 100_000)
                    self.bytes_sent += 100_000
            except OSError:
                return
        else:
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            call.send_response(status)
            for name, value in headers.items():
                call.send_header(name, value)
            call.send_header("content-length", "0")
            call.end_headers()


def self_signed(name: str, folder: Path) -> Path:
    """A file with a key, and a certificate for it that is its own authority."""
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


@contextmanager
def receiver(*answers: Any, certificate: Path | None = None) -> Iterator[Receiver]:
    running = Receiver(*answers, certificate=certificate)
    try:
        yield running
    finally:
        running.close()
