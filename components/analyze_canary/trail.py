"""A trail of evidence, thinned out so that it stays short however long the canary runs."""

from __future__ import annotations

from typing import Final

from serving.contracts.canary_verdict import EvidencePoint

MAX_POINTS: Final = 200


class Trail:
    """Keeps every n-th point, n doubling whenever there are too many, and always the newest one."""

    def __init__(self) -> None:
        self._kept: list[EvidencePoint] = []
        self._newest: EvidencePoint | None = None
        self._stride = 1
        self._seen = 0

    def add(self, point: EvidencePoint) -> None:
        """Add the point after one more observation."""
        self._newest = point
        if self._seen % self._stride == 0:
            self._kept.append(point)
        self._seen += 1
        if len(self._kept) >= MAX_POINTS:
            del self._kept[1::2]
            self._stride *= 2

    def points(self) -> tuple[EvidencePoint, ...]:
        """Return at most `MAX_POINTS` points, oldest first, the newest one last."""
        if self._newest is None or self._kept[-1] is self._newest:
            return tuple(self._kept)
        return (*self._kept, self._newest)
