"""The report of a run: one value, shown as text, as JSON and as a page, with the figures that the journal adds to it."""

from __future__ import annotations

from migrate_storage.reporting.estimate import Cost, Estimate
from migrate_storage.reporting.html.page import page
from migrate_storage.reporting.report import LISTED, SCHEMA, Report, outcome_from_dict, outcome_to_dict
from migrate_storage.reporting.statistics import Figures, figures
from migrate_storage.reporting.text import render

__all__ = (
    "LISTED",
    "SCHEMA",
    "Cost",
    "Estimate",
    "Figures",
    "Report",
    "figures",
    "outcome_from_dict",
    "outcome_to_dict",
    "page",
    "render",
)
