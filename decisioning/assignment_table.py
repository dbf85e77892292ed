"""Assignments of many units to many experiments at once: what `Trial.lot` says, as a table.

MurmurHash3 over columns. Units of as many bytes are hashed together, 4 bytes of all of them at a time. Of
what is hashed, `<salt>:<unit>`, the whole words of `<salt>:` are the same for everyone and hashed once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.content_types import BUCKETS
from decisioning.trial import Trial

NO_PART = -1
# Units at a time: so few that what is worked out of them stays in a core's cache.
CHUNK = 32_768
# MurmurHash3_x86_32, https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp
_C1, _C2, _N = 0xCC9E2D51, 0x1B873593, 0xE6546B64
_F1, _F2 = 0x85EBCA6B, 0xC2B2AE35
_WORD = 0xFFFFFFFF

Ids = Sequence[str] | NDArray[np.str_] | NDArray[np.bytes_]
Words = NDArray[np.uint32]


def assignment_table(trials: Sequence[Trial], units: Ids) -> NDArray[np.int16]:
    """The place of each unit's variant among those of the experiment, -1 where the unit takes no part.

    Who is not eligible takes no part either, which the caller knows; testers always do. Beside units and
    result it takes a few megabytes, however many units there are.

    Args:
        trials: The experiments, `n_experiments`.
        units: Ids, `(n_units,)`; bytes are UTF-8.

    Returns:
        `(n_units, n_experiments)`, 2 bytes each.

    >>> from decisioning.experiment_content import Experiment, Variant
    >>> copy = Experiment(id="hero_copy", variants=(Variant(id="a"), Variant(id="b")), testers={"ann": "a"})
    >>> assignment_table([Trial(copy)], ["c-1", "c-2", "ann"]).tolist()
    [[1], [1], [0]]
    """
    columns = [_Column.of(trial) for trial in trials]
    layers = {column.layer for column in columns if column.layer is not None}
    testers = frozenset[bytes]().union(*(column.testers for column in columns))
    table = np.empty((len(units), len(columns)), dtype=np.int16)
    for begin in range(0, len(units), CHUNK):
        ids = _encoded(units[begin : begin + CHUNK])
        rows = table[begin : begin + CHUNK]
        for places, text in _by_length(ids):
            hashes = _Hashes(text)
            of_layers = {layer: hashes.buckets(layer) for layer in layers}
            for number, column in enumerate(columns):
                rows[places, number] = column.variants(hashes, of_layers)
        for place in (place for place, unit in enumerate(ids) if unit in testers):
            rows[place] = [column.testers.get(ids[place], rows[place, n]) for n, column in enumerate(columns)]
    return table


class _Column(NamedTuple):
    """An experiment of the table: a `Trial`, with the place of the variant that each bucket gets."""

    salt: str
    traffic: int
    layer: str | None
    begin: int
    end: int
    of_bucket: NDArray[np.int16]
    testers: Mapping[bytes, int]

    @classmethod
    def of(cls, trial: Trial) -> "_Column":
        places = {variant.id: place for place, variant in enumerate(trial.experiment.variants)}
        of_bucket = np.repeat(np.arange(len(places), dtype=np.int16), np.diff((0, *trial.ends)))
        testers = {unit.encode(): places[variant] for unit, variant in trial.experiment.testers.items()}
        return cls(trial.salt, trial.traffic, trial.layer_salt, trial.begin, trial.end, of_bucket, testers)

    def variants(self, hashes: "_Hashes", layers: Mapping[str, Words]) -> NDArray[np.int16]:
        """Of each unit, by hashes alone; `layers` are the units' buckets of every layer."""
        found = self.of_bucket.take(hashes.buckets(self.salt))
        if self.traffic < BUCKETS:
            found[hashes.buckets(f"{self.salt}:traffic") >= self.traffic] = NO_PART
        if self.layer is not None:
            found[(layers[self.layer] < self.begin) | (layers[self.layer] >= self.end)] = NO_PART
        return found


class _Hashes:
    """Hashes of units that have as many bytes, with any salt.

    Where a unit's bytes lie in the words that are hashed hangs on how many bytes go before them; there are
    four such ways, each worked out when a salt first needs it.
    """

    def __init__(self, text: NDArray[np.uint8]) -> None:
        """Of `text`, `(n_units, n_bytes)`."""
        self._text = text
        self._words: dict[int, tuple[Words, Words]] = {}

    def buckets(self, salt: str) -> Words:
        """What `trial.bucket` says, `(n_units,)`."""
        prefix = f"{salt}:".encode()
        count, length = self._text.shape
        words, mixed = self._of(len(prefix) % 4)
        state, rest = _prefixed(prefix)
        hashed = np.full(count, state, dtype=np.uint32)
        spare = np.empty_like(hashed)
        for number in range(len(words)):
            # The first word may begin with what is left of the salt.
            hashed ^= _mixed(words[0] | rest, spare) if number == 0 and rest else mixed[number]
            if number < (len(prefix) % 4 + length) // 4:
                _rotate(hashed, 13, spare)
                hashed *= 5
                hashed += _N
        hashed ^= len(prefix) + length
        hashed ^= np.right_shift(hashed, 16, out=spare)
        hashed *= _F1
        hashed ^= np.right_shift(hashed, 13, out=spare)
        hashed *= _F2
        hashed ^= np.right_shift(hashed, 16, out=spare)
        # The remainder; numpy divides by a constant four times as fast as it finds remainders.
        np.floor_divide(hashed, BUCKETS, out=spare)
        spare *= BUCKETS
        hashed -= spare
        return hashed

    def _of(self, shift: int) -> tuple[Words, Words]:
        """The units' bytes as little-endian words, `(n_words, n_units)`, after `shift` zeros; and these mixed."""
        if shift not in self._words:
            count, length = self._text.shape
            padded = np.zeros((count, -(-(shift + length) // 4) * 4), dtype=np.uint8)
            padded[:, shift : shift + length] = self._text
            words = np.ascontiguousarray(padded.view("<u4").T, dtype=np.uint32)
            self._words[shift] = words, _mixed(words.copy(), np.empty_like(words))
        return self._words[shift]


def _prefixed(prefix: bytes) -> tuple[int, int]:
    """The hash's state after the whole words of what is the same for every unit, and the bytes that are left."""
    state, whole = 0, len(prefix) // 4 * 4
    for begin in range(0, whole, 4):
        word = int.from_bytes(prefix[begin : begin + 4], "little") * _C1 & _WORD
        state ^= (word << 15 | word >> 17) * _C2 & _WORD
        state = ((state << 13 | state >> 19) * 5 + _N) & _WORD
    return state, int.from_bytes(prefix[whole:], "little")


def _mixed(words: Words, spare: Words) -> Words:
    """These words, changed in place into what the hash takes in of each."""
    words *= _C1
    _rotate(words, 15, spare)
    words *= _C2
    return words


def _rotate(words: Words, bits: int, spare: Words) -> None:
    np.right_shift(words, 32 - bits, out=spare)
    words <<= bits
    words |= spare


def _encoded(units: Ids) -> list[bytes]:
    listed = units.tolist() if isinstance(units, np.ndarray) else units
    return [unit if isinstance(unit, bytes) else unit.encode() for unit in listed]


def _by_length(ids: Sequence[bytes]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Of ids of each length: their places, and their bytes, `(n_ids, n_bytes)`."""
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        joined = b"".join([ids[place] for place in places.tolist()])
        yield places, np.frombuffer(joined, dtype=np.uint8).reshape(len(places), length)
