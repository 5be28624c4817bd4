"""A brief turned into a web site by a crew of workers, watched as it happens."""
