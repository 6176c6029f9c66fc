"""DSPy 3.4 on our backends: `lm` for any DSPy program, `dspy_learner` for `compare`, `optimize_with_dspy`, and prompts
to and from its programs."""

from promptlab.backends import needs

needs("dspy")

from promptlab.interop.dspy.engine import Engine, engine, lm, sft_on  # noqa: E402
from promptlab.interop.dspy.learning import Metric, Searched, dspy_learner, optimize_with_dspy  # noqa: E402
from promptlab.interop.dspy.plain import PromptAdapter  # noqa: E402
from promptlab.interop.dspy.prompts import module_from, prompt_from_dspy  # noqa: E402

__all__ = [
    "Engine",
    "Metric",
    "PromptAdapter",
    "Searched",
    "dspy_learner",
    "engine",
    "lm",
    "module_from",
    "optimize_with_dspy",
    "prompt_from_dspy",
    "sft_on",
]
