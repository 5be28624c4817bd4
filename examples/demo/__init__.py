"""All examples in one process, each under a path of its own."""
