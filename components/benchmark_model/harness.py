"""The held-out questions as an lm-evaluation-harness task, and a served model as its language model.

The harness builds, orders, sends, retries and scores the requests; ours is only what it lacks: prompts of several turns
that the engine's own chat template renders, and answers' likelihoods over exactly those prompt tokens. Importing this
module takes seconds; only `quality.py` does, when it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from components.benchmark_model.measurements import RowOutcome
from components.benchmark_model.questions import Question

TASK = "held-out-questions"
_ATTEMPTS = 3
_REQUEST_SECONDS = 120


class HeldOutQuestions(Task):  # type: ignore[misc]  # lm_eval ships no types
    """Two requests a row: the greedy answer to the conversation, and the likelihood of the right answer."""

    OUTPUT_TYPE = "generate_until"

    def __init__(self, questions: Sequence[Question], max_answer_tokens: int) -> None:
        self._questions = list(questions)
        self._max_answer_tokens = max_answer_tokens
        super().__init__(config={"task": TASK, "num_fewshot": 0, "repeats": 1, "generation_kwargs": {"until": []}})

    def download(self, *_: object, **__: object) -> None:
        """Do nothing: the rows lie in memory."""

    def has_training_docs(self) -> bool:
        """There are none: every question is asked without examples."""
        return False

    def has_validation_docs(self) -> bool:
        """There are none."""
        return False

    def has_test_docs(self) -> bool:
        """The held-out rows are the test documents."""
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        """Return the rows, in order."""
        return [
            {"row": index, "id": question.row.id, "answer": question.row.answer}
            for index, question in enumerate(self._questions)
        ]

    def doc_to_text(self, doc: Mapping[str, Any]) -> str:
        """Return the conversation as JSON; the engine's chat template renders it."""
        messages = [message.model_dump() for message in self._questions[doc["row"]].row.messages]
        return json.dumps(messages, ensure_ascii=False)

    def doc_to_target(self, doc: Mapping[str, Any]) -> str:
        """Return the one right answer."""
        return str(doc["answer"])

    def fewshot_context(self, doc: Mapping[str, Any], *_: object, **__: object) -> str:
        """Return the conversation alone."""
        return self.doc_to_text(doc)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Build the row's two requests."""
        generation = {"until": [], "max_gen_toks": self._max_answer_tokens, "temperature": 0.0}
        metadata = kwargs["metadata"]
        return [
            Instance("generate_until", doc, (JsonChatStr(ctx), generation), 0, metadata=metadata),
            Instance("loglikelihood", doc, (str(doc["row"]), str(doc["answer"])), 1, metadata=metadata),
        ]

    def process_results(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        """Score one row: exact match after trimming white space, and the right answer's log likelihood."""
        generated, (logprob, _) = results
        exact = generated.strip() == self.doc_to_target(doc).strip()
        return {"exact_match": float(exact), "answer_logprob": float(logprob)}

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], float]]:
        """Average both; the intervals are made elsewhere, from the rows."""
        return {"exact_match": _mean, "answer_logprob": _mean}

    def higher_is_better(self) -> dict[str, bool]:
        """More is better for both."""
        return {"exact_match": True, "answer_logprob": True}


class _Chat(LocalChatCompletion):  # type: ignore[misc]  # lm_eval ships no types
    """Chat completions that tell when a row is done."""

    def __init__(self, on_row: Callable[[], None], **arguments: Any) -> None:
        super().__init__(tokenizer_backend=None, tokenized_requests=False, **arguments)
        self._on_row = on_row

    async def amodel_call(self, *args: Any, **kwargs: Any) -> Any:
        """Answer one request, then count it."""
        answers = await super().amodel_call(*args, **kwargs)
        self._on_row()
        return answers


class _Likelihood(LocalCompletionsAPI):  # type: ignore[misc]  # lm_eval ships no types
    """Likelihoods over token ids that the engine itself made; a request's context is the index of its question."""

    def __init__(self, questions: Sequence[Question], **arguments: Any) -> None:
        super().__init__(tokenizer_backend=None, **arguments)
        self._questions = questions
        self.tokenizer = self  # the harness only checks that there is one before it counts context tokens
        self.tokenized_requests = True

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        question = self._questions[int(context)]
        return list(question.prompt_tokens), list(question.answer_tokens)


class ServedModel(LM):  # type: ignore[misc]  # lm_eval ships no types
    """An OpenAI-compatible engine as the harness sees it: chat for answers, completions for likelihoods."""

    def __init__(
        self, url: str, model: str, questions: Sequence[Question], *, concurrency: int, on_row: Callable[[], None]
    ) -> None:
        super().__init__()
        longest = max(len(question.prompt_tokens) + len(question.answer_tokens) for question in questions)
        arguments = {
            "model": model,
            "num_concurrent": concurrency,
            "max_retries": _ATTEMPTS,
            "timeout": _REQUEST_SECONDS,
            "max_length": longest + 2,
            "eos_string": "unused",
        }
        self._chat = _Chat(on_row, base_url=f"{url}/v1/chat/completions", **arguments)
        self._likelihood = _Likelihood(questions, base_url=f"{url}/v1/completions", **arguments)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer every conversation."""
        return list(self._chat.generate_until(requests))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Score every right answer."""
        return list(self._likelihood.loglikelihood(requests, disable_tqdm=True))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refuse: the task asks for no rolling likelihood."""
        raise NotImplementedError(f"expected no rolling likelihood request; got {len(requests)}")


def evaluate_rows(
    url: str, model: str, questions: Sequence[Question], *, concurrency: int, on_row: Callable[[], None]
) -> tuple[RowOutcome, ...]:
    """Ask one engine every question through the harness.

    Args:
        url: Engine's address without path.
        model: Served model name.
        questions: Rows with their tokens, at least one that fits.
        concurrency: Requests in flight, at least 2.
        on_row: Called once for every row whose answer has come.

    Returns:
        One outcome a question, in order.

    Raises:
        aiohttp.ClientError: A request failed on each of its three attempts.
        TimeoutError: As above, by taking longer than two minutes.
    """
    asked = [index for index, question in enumerate(questions) if question.fits]
    fitting = [questions[index] for index in asked]
    outcomes = [RowOutcome(exact=False, answer_logprob=None, answer_tokens=len(q.answer_tokens)) for q in questions]
    if not fitting:
        return tuple(outcomes)
    task = HeldOutQuestions(fitting, max(len(question.answer_tokens) for question in fitting) + 1)
    served = ServedModel(url, model, fitting, concurrency=concurrency, on_row=on_row)
    result = evaluate(served, {"tasks": {TASK: task}, "groups": {}}, bootstrap_iters=0, log_samples=True)
    for sample in result["samples"][TASK]:
        question = fitting[sample["doc"]["row"]]
        outcomes[asked[sample["doc"]["row"]]] = RowOutcome(
            exact=sample["exact_match"] == 1.0,
            answer_logprob=sample["answer_logprob"],
            answer_tokens=len(question.answer_tokens),
        )
    return tuple(outcomes)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
