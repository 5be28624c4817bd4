"""Construction drawings compared: the API of a service whose jobs are followed by event streams."""
