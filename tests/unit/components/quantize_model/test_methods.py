"""The method table and its programs agree."""

from __future__ import annotations

import ast
import sys

import pytest

from components.quantize_model.methods import METHODS, Method
from serving.contracts.release_spec import QuantizeMethod, QuantizeRecipe

FOREIGN = {method: entry for method, entry in METHODS.items() if entry.environment is not None}
TOOLS = {"autogptq": {"auto_gptq"}, "gptqmodel": {"gptqmodel"}}
TOOLS_OWN = {"torch", "transformers", "safetensors"}


def test_every_method_has_a_program() -> None:
    """No method of the spec is without a file, and no file serves two methods."""
    assert set(METHODS) == set(QuantizeMethod)
    assert all(entry.program.is_file() for entry in METHODS.values())
    assert len({entry.program for entry in METHODS.values()}) == len(METHODS)


def test_methods_read_fields_that_recipes_have() -> None:
    """A misspelt field would leave it out of the cache's key."""
    assert {field for entry in METHODS.values() for field in entry.reads} <= set(QuantizeRecipe.model_fields)


@pytest.mark.parametrize("entry", FOREIGN.values(), ids=lambda entry: entry.file)
def test_foreign_programs_import_no_package_of_ours(entry: Method) -> None:
    """Their environments hold the tool and what it needs, nothing else."""
    tree = ast.parse(entry.program.read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {module.split(".")[0] for module in modules}
    assert roots - sys.stdlib_module_names - TOOLS_OWN == TOOLS[entry.environment or ""]
