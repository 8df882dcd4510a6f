"""The report of a job, its figures, its progress and its metrics."""

from __future__ import annotations

from migrate_storage.reporting.estimate import Cost, Estimate
from migrate_storage.reporting.html.page import page
from migrate_storage.reporting.report import (
    MAX_PROBLEMS,
    SCHEMA,
    Report,
    note_to_dict,
    outcome_from_dict,
    outcome_to_dict,
)
from migrate_storage.reporting.statistics import Figures, figures
from migrate_storage.reporting.text import render

__all__ = (
    "MAX_PROBLEMS",
    "SCHEMA",
    "Cost",
    "Estimate",
    "Figures",
    "Report",
    "figures",
    "note_to_dict",
    "outcome_from_dict",
    "outcome_to_dict",
    "page",
    "render",
)
