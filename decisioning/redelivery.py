"""When something that could not be delivered is tried again: exponential backoff with full jitter.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/: each pause is drawn between 0 and a
bound that doubles, so that what failed together does not come back together.
"""

from datetime import timedelta

import numpy as np

FIRST = timedelta(seconds=30)
LONGEST = timedelta(hours=12)
# On average 2.9 days from the first attempt to the last.
MOST_ATTEMPTS = 22


def pause_after(attempts: int, *, rng: np.random.Generator, asked_for: timedelta | None = None) -> timedelta | None:
    """How long to wait after so many failed attempts; None: it was the last.

    `asked_for` is what the receiver wants (`Retry-After`): it is waited for, up to `LONGEST`.

    >>> pause_after(1, rng=np.random.default_rng(1)) < FIRST
    True
    >>> pause_after(22, rng=np.random.default_rng(1))
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    bound = min(FIRST * 2 ** (attempts - 1), LONGEST)
    drawn = bound * float(rng.random())
    return drawn if asked_for is None else max(drawn, min(asked_for, LONGEST))
