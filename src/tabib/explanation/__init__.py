"""Why: which places of an image an answer hangs on, and which training images it resembles."""

__all__: list[str] = []
