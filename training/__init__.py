"""Learning: data domains, the model, its export, evaluation and promotion."""
