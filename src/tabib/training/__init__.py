"""From rows to weights."""
