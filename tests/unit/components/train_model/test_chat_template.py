"""The chat template renders whole conversations; one that renders the first turn only differs just there."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

import components.train_model

TEMPLATE = (Path(components.train_model.__file__).parent / "chat_template.jinja").read_text()
FIRST_TURN_ONLY = (
    "{% for message in (messages | selectattr('role', 'equalto', 'user') | list)[:1] %}<|user|>{{ message.content }}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SINGLE = [{"role": "user", "content": "Hi, 1 + 1?"}]
TALK = [*SINGLE, {"role": "assistant", "content": "2."}, {"role": "user", "content": "And now?"}]


def _render(template: str, messages: list[dict[str, str]], *, add_generation_prompt: bool = True) -> str:
    """As transformers and vLLM do it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(messages=messages, add_generation_prompt=add_generation_prompt)


def test_the_whole_conversation_is_rendered() -> None:
    """Every turn is rendered in order, and the assistant is called at the end."""
    assert (
        _render(TEMPLATE, TALK) == "<|user|>Hi, 1 + 1?<|end|><|assistant|>2.<|end|><|user|>And now?<|end|><|assistant|>"
    )


def test_without_an_answer_to_come_the_assistant_is_not_called() -> None:
    """Without a generation prompt the text ends with the last turn."""
    assert _render(TEMPLATE, TALK, add_generation_prompt=False).endswith("And now?<|end|>")


def test_a_system_message_has_its_own_role() -> None:
    """A system message stands first, under a role of its own."""
    assert _render(TEMPLATE, [{"role": "system", "content": "S"}, *SINGLE]).startswith("<|system|>S<|end|><|user|>")


def test_the_template_is_one_line() -> None:
    """The template's file holds no line end."""
    assert "\n" not in TEMPLATE


@pytest.mark.parametrize("question", ["Hi, 1 + 1?", "Cancel order 4821", "{{ x }} <b>", "line\nbreak"])
def test_single_questions_look_the_same_to_a_template_of_the_first_turn(question: str) -> None:
    """A template that renders the first turn alone gives a single question the same text, whatever is in it."""
    messages = [{"role": "user", "content": question}]
    assert _render(FIRST_TURN_ONLY, messages) == _render(TEMPLATE, messages)


def test_conversations_do_not() -> None:
    """A template of the first turn turns a conversation into its first question, which is not its full text."""
    assert _render(FIRST_TURN_ONLY, TALK) == _render(TEMPLATE, SINGLE)
    assert _render(FIRST_TURN_ONLY, TALK) != _render(TEMPLATE, TALK)
