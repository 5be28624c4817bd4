"""Server-Sent Events on Trio: a channel is a compacted log, a subscriber a cursor into it."""

from __future__ import annotations

from .channel import ChannelStatistics as ChannelStatistics
from .channel import EventChannel as EventChannel
from .client import EventSource as EventSource
from .client import EventSourceStatistics as EventSourceStatistics
from .client import Interruption as Interruption
from .client import RetryPolicy as RetryPolicy
from .client import open_event_source as open_event_source
from .codec import EventStreamDecoder as EventStreamDecoder
from .codec import encode as encode
from .errors import ChannelEnded as ChannelEnded
from .errors import EventSourceFailed as EventSourceFailed
from .errors import EventTooLarge as EventTooLarge
from .errors import InvalidEventData as InvalidEventData
from .errors import InvalidHTTP as InvalidHTTP
from .errors import InvalidLog as InvalidLog
from .errors import InvalidTransition as InvalidTransition
from .errors import JobFailed as JobFailed
from .errors import LocalError as LocalError
from .errors import LogUnavailable as LogUnavailable
from .errors import ProxyRefused as ProxyRefused
from .errors import RemoteError as RemoteError
from .errors import SselibError as SselibError
from .errors import SubscriptionLagged as SubscriptionLagged
from .errors import TooManyJobs as TooManyJobs
from .errors import TopicFull as TopicFull
from .events import Comment as Comment
from .events import ServerSentEvent as ServerSentEvent
from .jobs import Job as Job
from .jobs import JobChange as JobChange
from .jobs import JobError as JobError
from .jobs import JobKind as JobKind
from .jobs import JobRunner as JobRunner
from .jobs import Outcome as Outcome
from .jobs import RunningJob as RunningJob
from .jobs import open_job_runner as open_job_runner
from .lifecycle import Lifecycle as Lifecycle
from .log import EventLog as EventLog
from .log import NewEntry as NewEntry
from .log import Resumption as Resumption
from .log import Retention as Retention
from .log.memory import MemoryLog as MemoryLog
from .log.sqlite import SQLiteLog as SQLiteLog
from .log.sqlite import open_sqlite_log as open_sqlite_log
from .policy import StreamPolicy as StreamPolicy
from .server import run as run
from .server import serve as serve
from .stream import EventStream as EventStream
from .subscription import Subscription as Subscription
from .topics import Topics as Topics
from .topics import open_topics as open_topics

__version__ = "0.1.0"
