"""The command line: each verb is a few calls of the library.

Nothing heavy is imported before a verb runs, so that `--help` answers at once and `look`, `evaluate` and `report` never
import torch. Results go to standard output, everything else to standard error.

With `--json` the result, or the error, is one JSON object on standard output; only an option or a value that the command
line itself does not understand is said on standard error alone.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but some images were refused.
"""

from __future__ import annotations

import sys

import typer

from tabib.cli.data import cache, look, phantom, plan
from tabib.cli.experiments import ablate, compare, cross_validate, label_trouble, leaky_twin, learning_curve, search
from tabib.cli.road import calibrate, check, demo, run, split, summary, train
from tabib.cli.tell import fail
from tabib.cli.use import evaluate, explain, predict, report
from tabib.errors import TabibError

__all__ = ["app", "main"]

VERBS = (
    *(look, plan, phantom),
    *(split, summary, check, train, calibrate, run, demo),
    *(predict, evaluate, explain, report),
    *(compare, cross_validate, label_trouble, leaky_twin, learning_curve, ablate, search),
    cache,
)
"""In the order in which help, readmes and reference list them."""

app = typer.Typer(
    name="tabib",
    help="From a folder of medical images to a trained, honestly judged and documented model. For research and teaching, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Run the command line and leave with the documented exit code."""
    try:
        app()
    except TabibError as error:
        sys.exit(fail(str(error), error.exit_code, type(error).__name__))
