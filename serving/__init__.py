"""The service: HTTP, the engine and the adapters that bind its ports."""
