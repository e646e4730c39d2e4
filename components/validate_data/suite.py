"""Run a contract's rules as Great Expectations suites. Importing this module takes 2 to 6 seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.validate_data.columns import ROW, SplitColumns
from components.validate_data.lean_import import lean_imports
from components.validate_data.rules import Check, Rule
from serving.contracts.data_contract import BrokenRule

with lean_imports():
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

MAX_EXAMPLES: Final = 5
_SITE: Final = "data_docs"


@dataclass(frozen=True)
class SplitToCheck:
    """One split with the rules it must keep."""

    columns: SplitColumns
    rules: Sequence[Rule]


def run_suites(splits: Sequence[SplitToCheck], docs: Path) -> list[BrokenRule]:
    """Check all splits, one checkpoint each, and write Great Expectations' Data Docs.

    Args:
        splits: At least one.
        docs: Folder for the site; `index.html` is its entry.

    Returns:
        Rules that do not hold, in the order of the splits and their rules.
    """
    context = _context(docs)
    source = context.data_sources.add_pandas("rows")
    broken = [broken for split in splits for broken in _run(context, source, split)]
    context.build_data_docs()
    return broken


def _context(docs: Path) -> Any:
    """Open a context whose stores live in memory and whose only output is the site."""
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={_SITE: site},
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(project_config=config, mode="ephemeral")


def _run(context: Any, source: Any, split: SplitToCheck) -> Iterator[BrokenRule]:
    name = split.columns.split.value
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
    suite = context.suites.add(gx.ExpectationSuite(name=name))
    for rule in split.rules:
        suite.add_expectation(_expectation(rule))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]},
        )
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": _frame(split)})
    (validation,) = outcome.run_results.values()
    by_name = {result.expectation_config.meta["rule"]: result for result in validation.results}
    for rule in split.rules:
        if not by_name[rule.name].success:
            yield _broken(split.columns, rule, by_name[rule.name])


def _frame(split: SplitToCheck) -> pd.DataFrame:
    """Build the batch: the row's name and the columns that rules look at; text columns keep None as null."""
    numbers = {rule.column for rule in split.rules if rule.check is Check.BETWEEN}
    wanted = dict.fromkeys([ROW, *(rule.column for rule in split.rules if rule.column)])
    return pd.DataFrame(
        {name: pd.Series(split.columns.values[name], dtype="Int64" if name in numbers else "object") for name in wanted}
    )


def _expectation(rule: Rule) -> Any:
    arguments: dict[str, object] = {"meta": {"rule": rule.name, "expected": rule.expected}}
    if rule.column is not None:
        arguments["column"] = rule.column
    if rule.check is Check.EMPTY:
        arguments["mostly"] = 1.0 - rule.allowed_fraction
    else:
        arguments |= {"min_value": rule.minimum, "max_value": rule.maximum}
    return getattr(gxe, rule.check.value)(**arguments)


def _broken(columns: SplitColumns, rule: Rule, result: Any) -> BrokenRule:
    if result.exception_info.get("raised_exception"):
        found = f"the check itself failed: {result.exception_info.get('exception_message')}"
        return BrokenRule(split=columns.split, rule=rule.name, expected=rule.expected, found=found)
    details: Mapping[str, Any] = result.result
    if "observed_value" in details:
        found = str(details["observed_value"])
    else:
        found = f"{details['unexpected_count']} of {details['element_count']} rows break it"
    unexpected = details.get("unexpected_index_list") or []
    examples = tuple(_example(columns, rule, entry) for entry in unexpected[:MAX_EXAMPLES])
    return BrokenRule(split=columns.split, rule=rule.name, expected=rule.expected, found=found, example_rows=examples)


def _example(columns: SplitColumns, rule: Rule, entry: Mapping[str, Any]) -> str:
    """Name one row: file and line, what is wrong, the masked beginning of its question."""
    name, value = str(entry[ROW]), entry[str(rule.column)]
    what = f"same as {value}" if rule.name in {"duplicates", "leakage", "unique-ids"} else str(value)
    excerpt = columns.excerpts.get(name)
    return f"{name}: {what}" + (f" in {excerpt!r}" if excerpt else "")
