"""Small services that real people could run, each on sselib."""
