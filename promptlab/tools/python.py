"""Programs that a model writes, run in a sandbox of the operating system's."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.errors import WrongCall
from promptlab.tool import Tool, tool
from promptlab.tools.sandbox import Limits, Ran, Sandbox

MOST_PROGRAM = 200_000  # characters
MOST_OBSERVED = 4_000  # characters that a model is shown of what a program printed


def python(packages: Sequence[str] = (), sandbox: Sandbox | None = None) -> Tool:
    """A tool that runs Python programs, each in a fresh sandbox. Raises SetupError where nothing can isolate them."""
    where = sandbox or Sandbox(packages=packages)

    def python(program: str) -> str:
        """Runs a Python program and tells what it prints. No network, no files; print what you want to know.

        Args:
            program: the whole program; nothing is kept from one call to the next
        """
        if len(program) > MOST_PROGRAM:
            raise WrongCall(f"the program has {len(program):,} characters; {MOST_PROGRAM:,} is the most")
        return observed(where.run(program), where.limits)

    return tool(python)


def python_importing(packages: str = "") -> Tool:
    """The same, of packages in a row: "sympy,mpmath"."""
    return python([name.strip() for name in packages.split(",") if name.strip()])


def observed(ran: Ran, limits: Limits) -> str:
    """What a model is told of a program: what it printed, and how it ended if not well."""
    parts = [shortened(ran.stdout.strip())]
    if ran.timed_out:
        parts.append(f"Error: stopped before it ended: a program has {limits.cpu_s} s.")
    elif ran.cut:
        parts.append(f"Error: it printed more than {limits.output_bytes // 1024} kB; the rest is lost.")
    elif ran.code:
        parts.append(f"Error: {failure(ran)}")
    elif ran.stderr.strip():
        parts.append(shortened(ran.stderr.strip()))
    return "\n".join(part for part in parts if part) or "It printed nothing."


def failure(ran: Ran) -> str:
    """How a program failed: the exception with the line of the program that it came from."""
    lines = ran.stderr.strip().splitlines()
    if ran.code < 0 or not lines:
        return f"it was ended by signal {-ran.code}." if ran.code < 0 else f"it exited with code {ran.code}."
    at = [line.strip().split(", in ")[0].split(", ")[-1] for line in lines if 'program.py", line' in line]
    where = f" ({at[-1]})" if at else ""
    return lines[-1][:500] + where


def shortened(text: str, most: int = MOST_OBSERVED) -> str:
    """A text's beginning and end, with how much was left out between them."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
