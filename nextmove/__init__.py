"""The command line: the one place that knows both learning and serving."""
