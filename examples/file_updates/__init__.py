"""Directories watched, their files indexed, and all of it told to everybody who listens.

Begin with ``app``, where everything is opened. What happens goes one way: ``watching`` says what
changed, ``intake`` puts that into the ``queue``, ``work`` takes from it what is due and sends it
through the ``pipeline`` into the ``index``, which ``search`` answers from. The ``backend`` owns
what they share, ``store`` keeps it, and ``api`` is what can be asked.
"""
