"""Tables of secrets in files of the operator's, which a setting names."""

import tomllib
from pathlib import Path
from typing import Any

from decisioning.errors import SetupError


def secret_table(path: Path, *, setting: str, example: str) -> dict[str, Any]:
    """What the TOML file holds.

    Raises:
        SetupError: It cannot be read. It never says a secret, so it does not quote the file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"the file {path} of the setting {setting} cannot be read: {error}", where=setting) from error
    except tomllib.TOMLDecodeError as error:
        raise SetupError(
            f"the file {path} of the setting {setting} is not TOML, must have lines like {example}", where=setting
        ) from error
