"""Why: which places of an image an answer hangs on, and which training images it resembles."""

from tabib.explanation.explain import explain, explain_paths
from tabib.explanation.masks import explain_mask_paths, explain_masks

__all__ = ["explain", "explain_mask_paths", "explain_masks", "explain_paths"]
