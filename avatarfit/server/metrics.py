"""What Prometheus may read. No session is told apart: its id is what opens it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from avatarfit.server.sessions import Sessions

_TOLD = {
    "frames": "Frames that left.",
    "pictures": "Pictures that were drawn.",
    "dropped_pictures": "Frames that left with an older picture, drawing being late.",
    "lost_frames": "Frames that were not fetched in time; their sound is lost too.",
    "unwatched_frames": "Frames that those who watched were too slow for.",
    "slips": "Times that a session stood still.",
    "slip_seconds": "For how long.",
    "underruns": "Times that sound ran dry in the middle.",
    "trimmed_seconds": "Live sound that was left out because it came faster than the clock.",
    "spoken_seconds": "Sound that went through.",
    "interrupts": "Interruptions.",
}


class _SessionsCollector(Collector):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterable[Metric]:
        sessions = self._sessions
        for name, value in sessions.totals().items():
            yield CounterMetricFamily(f"avatarfit_{name}", _TOLD[name], value=value)
        yield CounterMetricFamily("avatarfit_sessions_opened", "Sessions that were opened.", value=sessions.opened)
        yield CounterMetricFamily("avatarfit_sessions_refused", "Sessions without room.", value=sessions.refused)
        yield GaugeMetricFamily("avatarfit_sessions", "Sessions that run.", value=len(sessions))
        yield GaugeMetricFamily(
            "avatarfit_sessions_most", "Sessions that may run.", value=sessions.settings.most_sessions
        )
        yield GaugeMetricFamily("avatarfit_watchers", "Who watches.", value=sum(s.watchers for s in sessions))
        told = [session.live.statistics for session in sessions]
        for name, help_text, values in (
            ("driver", "Driving one frame, of the slowest session.", [s.driver_ms for s in told]),
            ("drawing", "Drawing one frame, of the slowest session.", [s.drawing_ms for s in told]),
            ("latency", "Sound's turn to its frame's leaving, likewise.", [s.rates.latency_ms for s in sessions]),
        ):
            yield GaugeMetricFamily(f"avatarfit_{name}_seconds", help_text, value=max(values, default=0.0) / 1e3)
        slowest = min((session.rates.pictures_per_second for session in sessions), default=0.0)
        yield GaugeMetricFamily("avatarfit_pictures_per_second", "New pictures, of the slowest session.", value=slowest)


def registry_of(sessions: Sessions) -> CollectorRegistry:
    """A registry of a server's sessions and of its process."""
    registry = CollectorRegistry()
    registry.register(_SessionsCollector(sessions))
    PlatformCollector(registry)
    ProcessCollector(registry=registry)
    return registry
