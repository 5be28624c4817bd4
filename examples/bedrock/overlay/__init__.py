"""Two revisions of a drawing laid over each other: what was added, what was removed, and where.

Values and computation: no task, no clock, no file. Reading, aligning and each row of tiles are
calls of their own, so that whoever makes them can do so in a thread, tell how far it is, and stop
between two of them.
"""

from __future__ import annotations

from .comparison import PICTURES as PICTURES
from .comparison import Change as Change
from .comparison import Comparison as Comparison
from .comparison import Overlay as Overlay
from .comparison import Picture as Picture
from .drawing import MAX_PIXELS as MAX_PIXELS
from .drawing import UnreadableDrawing as UnreadableDrawing
from .drawing import read_drawing as read_drawing
from .drawing import size_of as size_of
from .shift import Shift as Shift
from .shift import SizesDiffer as SizesDiffer
from .shift import find_shift as find_shift
