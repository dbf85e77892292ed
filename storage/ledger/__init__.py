"""The durable truth: decisions, outcomes, consents, blobs and the pointers to them."""
