"""HTTP: routes, problem documents, metrics, OpenAPI."""
