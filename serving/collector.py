"""The cyclic garbage collector, kept off what lives as long as the service: walking that stalls requests."""

import gc

# A decision leaves next to no cycles behind, so there is little to find in fewer objects.
_YOUNG_OBJECTS = 50_000
_THRESHOLDS = gc.get_threshold()


def settle() -> None:
    """Nothing that was loaded so far is garbage, and what comes later is looked through rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *_THRESHOLDS[1:])


def unsettle() -> None:
    """As it was before `settle`: libraries in C check at exit that their objects were collected."""
    gc.set_threshold(*_THRESHOLDS)
    gc.unfreeze()
