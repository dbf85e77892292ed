"""The mushroom problem: to eat or to pass, by 22 attributes.

Eating an edible mushroom earns 5, passing 0; a poisonous one earns 5 or -35 with even odds.
Blundell et al., *Weight Uncertainty in Neural Networks*, ICML 2015, section 5.3.
"""

from pathlib import Path

import numpy as np

from decisioning.errors import DataError
from nextmove.bandit_protocol import Problem

EAT, PASS = 0, 1
TICK = 10


def mushroom_problem(file: Path, *, rounds: int, seed: int) -> Problem:
    """So many mushrooms, drawn with replacement; features are one-hot.

    Raises:
        DataError: The file is not there, or is not the UCI data set's.
    """
    try:
        table = np.array([line.split(",") for line in file.read_text().splitlines() if line])
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; name the folder with mushroom.data by --data") from error
    if table.ndim != 2 or table.shape[1] != 23 or not set(table[:, 0]) <= {"p", "e"}:
        raise DataError(f"{file} is not the UCI data set: it must have 23 columns, the first p or e")
    is_poisonous = table[:, 0] == "p"
    one_hot = np.column_stack([table[:, place, None] == np.unique(table[:, place]) for place in range(1, 23)])
    rng = np.random.default_rng([seed, 3])
    met = rng.integers(0, len(table), rounds)
    is_harmful = is_poisonous[met] & (rng.random(rounds) < 0.5)
    nothing = np.zeros(rounds)
    return Problem(
        features=one_hot[met].astype(np.float64),
        candidates=np.ones((rounds, 2), dtype=bool),
        expected=np.column_stack([np.where(is_poisonous[met], -15.0, 5.0), nothing]),
        rewards=np.column_stack([np.where(is_harmful, -35.0, 5.0), nothing]),
        tick=TICK,
    )
