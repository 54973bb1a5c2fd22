"""What a capture shows to the person who waits for it: pictures, curves, and what to record again."""

from avatarfit.capture.report.advice import Check
from avatarfit.capture.report.report import CONTACT_SHEET, REPORT, CaptureReport, report_is_current, write_report

__all__ = ["CONTACT_SHEET", "REPORT", "CaptureReport", "Check", "report_is_current", "write_report"]
