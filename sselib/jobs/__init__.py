"""Jobs: work whose every change is an entry of a log, and whose present state is their fold.

* :class:`JobKind` says how jobs of a kind live and what joiners and slow clients are owed: data.
* :class:`JobRunner` takes work (:meth:`~JobRunner.submit`), runs so much of it at a time, cancels,
  lists, forgets. :func:`open_job_runner` opens it for as long as an ``async with`` lasts.
* :class:`RunningJob` is what work is given to speak through: progress, parts, states of its own.
  It returns a result, or raises.
* :class:`JobChange` is what is stored: one change, in the job's own words and in no API's.
* :class:`Job` is all that is known of a job: its changes, folded.
* An API's stream is the job's topic read through one pure function from a change to events:
  ``EventStream(runner.channel(job_id, render))``.

So the state of a job and its stream cannot disagree: there is one append per change.
"""

from __future__ import annotations

from .kinds import JOB as JOB
from .kinds import JobKind as JobKind
from .kinds import Outcome as Outcome
from .record import ChildJob as ChildJob
from .record import Job as Job
from .record import JobChange as JobChange
from .record import JobError as JobError
from .record import Step as Step
from .runner import JobRunner as JobRunner
from .runner import RenderChange as RenderChange
from .runner import open_job_runner as open_job_runner
from .running import RunningJob as RunningJob
from .running import Work as Work
