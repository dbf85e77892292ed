"""Learning: data domains, the model, its export, evaluation and promotion."""

from training.log import load_log

__all__ = ["load_log"]
