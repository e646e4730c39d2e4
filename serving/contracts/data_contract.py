"""Data contract: what the training, calibration, evaluation and live sets must look like before anything uses them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from serving.contracts.base import API_VERSION, Digest, Metadata, Name, StrictModel


class Split(StrEnum):
    """Roles of data sets. `evaluation` feeds offline gates, `live` the simulated users."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"
    LIVE = "live"


class Generator(StrictModel):
    """A deterministic generator of our own; the same fields always give the same bytes."""

    name: Literal["support-questions"]
    seed: int = 20260301
    rows: dict[Split, int] = Field(description="Rows of each split.")


class DataSource(StrictModel):
    """Where rows come from; exactly one field is set.

    `path` is a folder with `<split>.jsonl` files, absolute or relative to the contract file.
    """

    generator: Generator | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.generator is None) == (self.path is None):
            raise ValueError("expected exactly one of generator, path")
        return self


class PersonalDataKind(StrEnum):
    """Personal data the contract can forbid."""

    KOREAN_RRN = "korean-resident-registration-number"
    CARD_NUMBER = "card-number"
    PHONE_NUMBER = "phone-number"
    EMAIL = "email-address"


class SplitRules(StrictModel):
    """Rules of one split."""

    min_rows: int = Field(ge=1)
    max_rows: int = Field(ge=1)
    max_prompt_tokens: int = Field(
        default=192, ge=1, description="Words and digits counted by the contract's own cheap tokenizer."
    )
    max_answer_tokens: int = Field(default=64, ge=1)
    min_intents: int = Field(default=1, ge=1)


class DataContractBody(StrictModel):
    """Body of a data contract."""

    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    owner: str
    description: str
    source: DataSource
    splits: dict[Split, SplitRules]
    forbid_personal_data: tuple[PersonalDataKind, ...] = tuple(PersonalDataKind)
    max_duplicate_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Share of rows of a split that repeat an earlier row."
    )
    max_leaked_rows: int = Field(
        default=0, ge=0, description="Evaluation or live rows whose conversation also stands in train or calibration."
    )


class DataContract(StrictModel):
    """`kind: DataContract`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["DataContract"]
    metadata: Metadata
    spec: DataContractBody


class Message(StrictModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=4000)


class DataRow(StrictModel):
    """One line of a `<split>.jsonl` file: a conversation and the one right answer to its last user turn."""

    id: str
    intent: Name
    messages: tuple[Message, ...] = Field(min_length=1)
    answer: str = Field(min_length=1)


class BrokenRule(StrictModel):
    """A rule that does not hold, with rows that show it (at most 5, personal data masked)."""

    split: Split
    rule: str
    expected: str
    found: str
    example_rows: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = "".join(f"\n    {row}" for row in self.example_rows)
        return f"{self.split}/{self.rule}: expected {self.expected}; found {self.found}{rows}"


class DataReport(StrictModel):
    """What validation found; the release goes on only when `broken` is empty."""

    contract: Name
    contract_version: str
    data_digest: Digest
    rows: dict[Split, int]
    rules_checked: int = Field(ge=1)
    broken: tuple[BrokenRule, ...] = ()
    data_docs: str | None = Field(
        default=None, description="Path of Great Expectations' Data Docs, relative to the release record."
    )
    seconds: float = Field(ge=0)
