"""`python -m tabib` is `tabib`."""

from tabib.cli import main

__all__: list[str] = []

main()
