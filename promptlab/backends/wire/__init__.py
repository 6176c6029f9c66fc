"""The providers' wire formats, both ways: `body(request, …)` is what is sent, `read(answer, …)` what came of it.

Answers are read as plain JSON, not as the SDKs' objects: those let an HTML page or `{}` pass as an answer.
"""
