"""PACS workbook: DICOM headers, DICOM network logs and HL7 v2 logs as tables, findings and fixes."""

from .acknowledgments import pair_acknowledgments
from .analyses.identitysteps import trace_identities
from .analyses.links import link_exams, links_table, summarize_matching
from .analyses.lookalikes import list_lookalikes
from .analyses.matching import find_mismatches, rank_candidates
from .analyses.measures import measure_findings, measure_split_effect
from .analyses.network import summarize_links, summarize_throughput
from .analyses.proposals import propose_series
from .analyses.splits import describe_splits
from .analyses.turnaround import measure_backlog, measure_turnaround, summarize_turnaround
from .analyses.wrongpatients import list_wrong_patients
from .department import Department, build_department, measure_period
from .fixes.applied import apply_corrections, find_stale
from .fixes.copies import CopiesStopped, write_corrected_copies
from .fixes.copyplan import plan_copies
from .fixes.corrections import read_corrections, record_correction, undo_correction, verify_corrections
from .fixes.drafts import draft_corrections, write_drafts
from .fixes.rehearsal import rehearse
from .milestones import best_events
from .readers.account import ShareLost, show_rejected, summarize_account
from .readers.archive import read_archive
from .readers.auditlog import read_audit_log
from .readers.capture import read_capture
from .readers.dicomlog import read_dicom_log
from .readers.headers import read_headers
from .readers.hl7log import read_hl7_log
from .readers.risexport import propose_columns, read_ris_export
from .readers.transfers import read_transfer_list
from .site import Site
from .store import Store, read_store, update_store
from .tables import AccountingError, TableError, conform
from .views.bench import FixBench
from .views.briefing import write_briefing
from .views.casefile import explain_gaps, plot_exam
from .views.charts import plot_backlog, plot_findings, plot_throughput, plot_turnaround, plot_turnaround_by
from .views.messages import explore_message
from .views.splitbars import plot_series
from .views.widgets import ExamCaseFile

__all__ = [
    "Site", "TableError", "AccountingError", "ShareLost", "conform",
    "read_headers", "read_hl7_log", "read_dicom_log", "read_capture", "read_archive", "read_audit_log", "read_ris_export", "read_transfer_list", "propose_columns",
    "summarize_account", "show_rejected", "Store", "update_store", "read_store",
    "Department", "build_department", "measure_period", "best_events", "pair_acknowledgments",
    "measure_turnaround", "summarize_turnaround", "measure_backlog",
    "find_mismatches", "rank_candidates", "link_exams", "links_table", "summarize_matching",
    "trace_identities", "list_lookalikes", "list_wrong_patients",
    "describe_splits", "propose_series", "measure_split_effect", "measure_findings", "summarize_throughput", "summarize_links",
    "record_correction", "undo_correction", "read_corrections", "verify_corrections", "apply_corrections", "find_stale",
    "rehearse", "draft_corrections", "write_drafts", "plan_copies", "write_corrected_copies", "CopiesStopped",
    "plot_turnaround", "plot_turnaround_by", "plot_backlog", "plot_findings", "plot_throughput", "plot_exam", "plot_series", "explain_gaps", "explore_message",
    "FixBench", "ExamCaseFile", "write_briefing",
]
