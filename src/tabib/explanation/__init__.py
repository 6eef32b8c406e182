"""Why: which places of an image an answer hangs on, and which training images it resembles."""

from tabib.explanation.explain import explain, explain_paths

__all__ = ["explain", "explain_paths"]
