"""Adapters of the engine's ports that need this service's libraries."""
