"""From a look at a folder to a proposed study."""

from tabib.plan.choices import Choice
from tabib.plan.proposal import TRAINING, Plan, plan_study, write_plan

__all__ = ["TRAINING", "Choice", "Plan", "plan_study", "write_plan"]
