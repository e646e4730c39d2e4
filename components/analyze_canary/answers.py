"""Compares an answer with the known one: right, well formed, a refusal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MAX_CHARACTERS: Final = 400
"""Known answers are single sentences of at most 80 characters; five times that is rambling."""

_SENTENCE_END: Final = (".", "!", "?")
_MARKER: Final = re.compile(r"<\|.*?\|>|</?s>|\[/?INST\]|[\x00-\x08\x0b-\x1f\x7f\ufffd]")
"""Chat-template tokens, control characters and undecodable bytes that must never reach a user."""

_REFUSALS: Final = (
    "i cannot help",
    "i can't help",
    "i cannot assist",
    "i can't assist",
    "i am unable to",
    "i'm unable to",
    "i am not able to",
    "i'm sorry, but",
    "as an ai",
)


@dataclass(frozen=True)
class Check:
    """What is wrong with one answer."""

    exact_match: bool
    format_failure: bool
    refusal: bool


def check_answer(answer: str, expected: str) -> Check:
    """Compare an answer with the known right one.

    Exact match ignores white space around the answer and nothing else. A format failure is an answer that is empty, has
    more than one line, is longer than 400 characters, holds template markers or control characters, or does not end
    like a sentence although the known answer does.
    """
    text = answer.strip()
    lower = text.lower().replace("\u2019", "'")
    return Check(
        exact_match=text == expected.strip(),
        format_failure=_badly_formed(text, expected.strip()),
        refusal=any(phrase in lower for phrase in _REFUSALS),
    )


def _badly_formed(text: str, expected: str) -> bool:
    return (
        not text
        or "\n" in text
        or len(text) > _MAX_CHARACTERS
        or _MARKER.search(text) is not None
        or (expected.endswith(_SENTENCE_END) and not text.endswith(_SENTENCE_END))
    )
