"""Policies as one writes them on a command line: `squarecb:8000`, `epsilon_greedy:0.1`, or a file."""

from pathlib import Path
from typing import Any, get_args

import msgspec

from decisioning.errors import RequestError
from decisioning.exploration import ExplorationPolicy
from storage.yaml_file import YamlMistake, plain, read_yaml

_SHARED = ("minimum_probability",)
POLICIES: dict[str, type[msgspec.Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(ExplorationPolicy)
}


def exploration_policy(spec: str) -> ExplorationPolicy:
    """The exploration policy that a text says, or a YAML or JSON file with what a placement's `exploration` has.

    After the policy's name and a colon stands its parameter, or `name=value` of several, with commas between.

    >>> exploration_policy("epsilon_greedy:0.1")
    EpsilonGreedy(epsilon=0.1, minimum_probability=0.0)
    >>> exploration_policy("squarecb:8000,minimum_probability=0.01")
    SquareCB(gamma=8000.0, minimum_probability=0.01)

    Raises:
        RequestError: It says none.
    """
    path = Path(spec).expanduser()
    content = _in_file(path) if path.suffix in (".yaml", ".yml", ".json") else _in_text(spec)
    try:
        return msgspec.convert(content, ExplorationPolicy, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"--policy is '{spec}': {error}; for example squarecb:8000", where="policy") from error


def _in_file(path: Path) -> Any:
    try:
        content = plain(read_yaml(path, name=path.name))
    except YamlMistake as error:
        raise RequestError(f"--policy names {path}: {'; '.join(error.mistakes)}", where="policy") from error
    return content.get("exploration", content)


def _in_text(spec: str) -> dict[str, Any]:
    name, _, parameters = spec.partition(":")
    if name not in POLICIES:
        raise RequestError(
            f"there is no policy '{name}', must be one of {', '.join(POLICIES)}, or a file", where="policy"
        )
    own = [each.name for each in msgspec.structs.fields(POLICIES[name]) if each.name not in _SHARED]
    content: dict[str, Any] = {"policy": name}
    for place, part in enumerate(filter(None, parameters.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            if place or not own:
                raise RequestError(f"--policy is '{spec}': {name} takes no parameter '{part}'", where="policy")
            key, value = own[0], part
        content[key.strip()] = value.strip()
    return content
