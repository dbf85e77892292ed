"""The secrets of providers' hooks, from a file that is no part of the catalogue."""

from collections.abc import Mapping

from decisioning.errors import SetupError
from storage.secret_tables import secret_table
from storage.settings import Settings

SHORTEST = 16  # a shorter one could be guessed


def read_hook_secrets(settings: Settings) -> Mapping[str, str]:
    """The secret of each hook, by the hook's id: what its provider signs with, or is checked by. None without a file.

    Raises:
        SetupError: The file cannot be read, or one of its secrets is none. It never says a secret.
    """
    path = settings.hook_secrets
    if path is None:
        return {}
    secrets = secret_table(path, setting="hook_secrets", example='sendgrid = "..."')
    for hook_id, secret in secrets.items():
        if not isinstance(secret, str) or len(secret) < SHORTEST or not secret.isprintable():
            raise SetupError(
                f"the secret of '{hook_id}' in the file {path} of the setting hook_secrets must be a text of at least"
                f" {SHORTEST} signs on one line; an id with a dot needs quotes",
                where="hook_secrets",
            )
    return secrets
