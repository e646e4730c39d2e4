"""Choose the number of CPU threads while training runs.

Two threads are half as fast again as one on idle cores and several times slower on busy ones, because torch's threads
wait for each other in a loop. The weights do not depend on the choice: every number is added up in the same order.
"""

from __future__ import annotations

import os
from typing import Final

import torch

_PERIOD_STEPS: Final = 100
_TRIAL_STEPS: Final = 6
_MAX_THREADS: Final = 4
"""Matrices of a small model do not gain from more threads."""


class ThreadChoice:
    """Tries every number of threads for a few steps, uses the fastest one, and tries again after a hundred steps."""

    def __init__(self, choices: tuple[int, ...]) -> None:
        self.choices = choices
        self._best = choices[0]
        self._tokens = dict.fromkeys(choices, 0)
        self._seconds = dict.fromkeys(choices, 0.0)
        self._current = choices[0]

    @classmethod
    def for_device(cls, device: str) -> ThreadChoice:
        """Offer one thread and as many as there are cores; a GPU needs one."""
        cores = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
        return cls((1,) if device != "cpu" else tuple(sorted({1, cores})))

    def start_step(self, step: int) -> int:
        """Set torch's threads for a step and return how many they are; steps count from 0."""
        trial = step % _PERIOD_STEPS // _TRIAL_STEPS
        if trial < len(self.choices):
            if step % _PERIOD_STEPS == 0:
                self._tokens = dict.fromkeys(self.choices, 0)
                self._seconds = dict.fromkeys(self.choices, 0.0)
            wanted = self.choices[trial]
        else:
            wanted = self._best
        if wanted != self._current or step == 0:
            torch.set_num_threads(wanted)
        self._current = wanted
        return wanted

    def end_step(self, tokens: int, seconds: float) -> None:
        """Count a step that has ended."""
        self._tokens[self._current] += tokens
        self._seconds[self._current] += seconds
        if all(self._seconds.values()):
            self._best = max(self.choices, key=lambda choice: self._tokens[choice] / self._seconds[choice])
