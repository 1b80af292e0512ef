"""Statistics of a set of sessions."""

from __future__ import annotations

import pandas as pd

from graphseq.data.sessions.sessions import Sessions, only_sessions


def describe(sessions: Sessions) -> pd.DataFrame:
    """Statistics of sessions, one per row: index ``statistic``, column ``value``.

    - ``sessions``, ``clicks``, ``items`` and ``users`` that occur (``None`` without users),
      ``targets``, and ``unknown_clicks`` outside the vocabulary: everything below except the
      lengths excludes them, as session graphs do;
    - ``length_min``, ``length_mean``, ``length_25%`` ... ``length_99%``, ``length_max``, in clicks;
      a quantile is the smallest length that at least this share of sessions does not exceed;
    - ``repeat_rate``: share of the clicks on an item that was visited before in the session;
    - ``repeated_transitions``: share of the transitions that occurred before in the session, which
      give edge weights above 1;
    - ``density``: share of all pairs of a session and an item that occur;
    - ``first_click``, ``last_click`` (UTC), ``days`` between them; ``None`` without times.

    Args:
        sessions: Any sessions. The values are plain numbers and strings, ready for JSON.

    Raises:
        ValueError: If there is no session.
    """
    only_sessions("sessions", sessions)
    return sessions.describe()
