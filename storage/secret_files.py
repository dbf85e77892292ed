"""Secrets that the service makes for itself and keeps in the state directory, where no setting gives one."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from decisioning.errors import SetupError
from storage.settings import Settings


def secret_of(settings: Settings, given: str | None, name: str) -> bytes:
    """What is given, or else what stands in this file, made where it does not exist.

    Raises:
        SetupError: The file is damaged.
    """
    if given is not None:
        return given.encode()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.home / name
    if not path.exists():
        # Two services that start at once must agree on one secret, and none may see half of it:
        # it is written under a name of its own, and who is first gives it the name.
        handle, temporary = tempfile.mkstemp(dir=settings.home)  # for the owner's eyes only
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
        Path(temporary).unlink()
    secret = path.read_bytes()
    if len(secret) != 32:
        raise SetupError(f"{path} has {len(secret)} bytes, must have 32; restore it from a backup or delete it")
    return secret
