"""How one serving process behaves; where things are is `Settings`' business."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Limits and rhythms of the serving microservice."""

    max_body_bytes: int = 1 << 20
    """A larger request body is answered 413 and never held in memory."""
    max_rows: int = 2000
    """Rows a request may carry."""
    max_requests: int = 256
    """Predict requests at hand at once, those that wait for their turn included; one more is answered 503, unread."""
    body_seconds: float = 30.0
    """How long a request may take to send its body, so that a silent client keeps no place for ever."""
    model_poll_seconds: float = 0.5
    """How often the published deployment is looked at."""
    history_poll_seconds: float = 5.0
    """How often the clean zone is looked at for new days."""
    retry_seconds: float = 10.0
    """Wait before a refused model, still published, is tried again."""
    flush_seconds: float = 2.0
    """How long a prediction waits in the journal at most while the lake can be written."""
    flush_rows: int = 5000
    """Rows that make the journal flush at once; also the rows of one journal segment, about."""
    tail_rows: int = 8192
    """Served rows that are searched without an index before they get one."""
