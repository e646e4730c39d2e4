"""Import Great Expectations without what the rules of a data contract never touch: 7 s become 2.5 s.

It imports clients of clouds and databases wherever they happen to be installed, and two large libraries for one
expectation of its hundred. Every name below costs time alone: one that a newer version does not import any more can go.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

_OPTIONAL: Final = ("chardet", "google.api_core", "google.auth", "google.cloud", "google.oauth2", "sqlalchemy")
"""Imported in a `try` with a stand-in: storage in Google's cloud, SQL back ends; requests guesses encodings without."""

_LATE: Final = ("altair", "scipy.stats")
"""Imported always, used by KL divergence alone; both come when their first attribute is asked for."""


@contextmanager
def lean_imports() -> Iterator[None]:
    """Hide optional packages and put off large ones while the block imports; nothing already imported is touched.

    The collector of cyclic garbage rests meanwhile, and leaves what was imported alone ever after, also at exit:
    hundreds of thousands of objects, hardly any of them garbage.
    """
    stand_ins: dict[str, Any] = {name: None for name in _OPTIONAL if name not in sys.modules}
    stand_ins |= {name: _Late(name) for name in _LATE if name not in sys.modules}
    sys.modules.update(stand_ins)
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name, name) is stand_in:
                del sys.modules[name]


class _Late(ModuleType):
    """Stands for a module until an attribute of it is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
