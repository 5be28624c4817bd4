"""Server-Sent Events on Trio: a channel is a compacted log, and a subscriber is a cursor into it."""

from __future__ import annotations

from .codec import EventStreamDecoder as EventStreamDecoder
from .codec import encode as encode
from .errors import ChannelEnded as ChannelEnded
from .errors import EventTooLarge as EventTooLarge
from .errors import InvalidEventData as InvalidEventData
from .errors import LocalError as LocalError
from .errors import RemoteError as RemoteError
from .errors import SselibError as SselibError
from .errors import SubscriptionLagged as SubscriptionLagged
from .errors import TopicFull as TopicFull
from .events import Comment as Comment
from .events import ServerSentEvent as ServerSentEvent

__version__ = "0.1.0"
