"""The study: the same examples, scorer and statistics for every learner."""

import sys
from types import ModuleType
from typing import Any


class _Study(ModuleType):
    """This package can be called: importing any of its modules makes it what `promptlab.compare` names."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from promptlab.compare.runner import compare

        return compare(*args, **kwargs)


sys.modules[__name__].__class__ = _Study
