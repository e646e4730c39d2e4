"""Image references of the steps; the one place that builds them.

The registry is written by whoever installs (a pull-through or an image override), never here.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
"""Version of this repository's wheel inside the image; a test holds it equal to the project's."""

COMPONENTS: Final = f"nexus/components-python:{VERSION}"
"""Image of every step: this wheel and the core environment."""
