"""One text of metrics for a gateway of several workers.

Each worker writes the label `worker` into all its series, and the texts are put together family by family. Nothing is
summed: a worker that is replaced begins its own counters again, which Prometheus' `rate` sees and allows for, where a
sum would seem to fall. `sum by (model) (rate(…))` reads as with one worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from serving.contracts import metric_names as names

_HELP: Final = b"\n# HELP "
_GAUGE: Final = "# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n"


class OfWorker(Collector):
    """Another collector's metrics with a worker's label.

    Args:
        collector: What is collected.
        worker: Number of the worker, from 0.
    """

    def __init__(self, collector: Collector, worker: int) -> None:
        self._collector = collector
        self._label = {"worker": str(worker)}

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        for metric in self._collector.collect():
            metric.samples = [sample._replace(labels=sample.labels | self._label) for sample in metric.samples]
            yield metric


def whole_metrics(texts: Sequence[bytes | None]) -> bytes:
    """Put the workers' texts together, and say how many there are.

    Args:
        texts: Of each worker in Prometheus' text format; None of one that did not answer.
    """
    families: dict[bytes, list[bytes]] = {}
    for text in texts:
        for family in (b"\n" + text).split(_HELP)[1:] if text else ():
            name, kind, *samples = family.rstrip(b"\n").split(b"\n", 2)
            families.setdefault(name + b"\n" + kind, []).extend(samples)
    out = [b"\n".join((_HELP[1:] + head, *samples)) for head, samples in families.items()]
    scraped = sum(text is not None for text in texts)
    workers = _GAUGE.format(name=names.GATEWAY_WORKERS, text="Processes that share the port", value=len(texts))
    answered = _GAUGE.format(name=names.GATEWAY_WORKERS_SCRAPED, text="Those of them in this answer", value=scraped)
    return b"\n".join((*out, workers.encode() + answered.encode()))
