"""From a brief to a checked web site: parse, decompose, execute, check.

Nothing in here knows of jobs, HTTP or streams. Two functions decide without I/O
(:func:`parse_brief`, :func:`decompose`), one does the work (:func:`carry_out`). Whatever is wrong
with a brief is a :exc:`BriefError`, whose message is for the one who wrote it.
"""

from __future__ import annotations

from .brief import Brief as Brief
from .brief import BriefError as BriefError
from .brief import parse_brief as parse_brief
from .crew import Deliverable as Deliverable
from .crew import Report as Report
from .crew import carry_out as carry_out
from .plan import Plan as Plan
from .plan import Task as Task
from .plan import decompose as decompose
