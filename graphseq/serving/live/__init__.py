"""Live sessions: their clicks, their states, and what is recommended to them."""

from graphseq.serving.live.record import Click, Record
from graphseq.serving.live.sessions import LiveSessions, Reply, Request

__all__ = ["Click", "LiveSessions", "Record", "Reply", "Request"]
