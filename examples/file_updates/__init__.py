"""Directories watched, and what happens in them told to everybody who listens."""
