"""The study: the same examples, scorer and statistics for every learner."""

import sys
from inspect import Signature, getdoc, signature
from types import ModuleType
from typing import Any


class _Study(ModuleType):
    # This package can be called: importing any of its modules makes it what `promptlab.compare` names. So it is told as
    # the function that it stands for, which is imported when it is wanted.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from promptlab.compare.runner import compare

        return compare(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        from promptlab.compare.runner import compare

        return signature(compare)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        from promptlab.compare.runner import compare

        # `help` shows a module's text, and no signature.
        bare = [each.replace(annotation=each.empty) for each in self.__signature__.parameters.values()]
        return f"compare{Signature(bare)}\n\n{getdoc(compare)}"


sys.modules[__name__].__class__ = _Study
