"""PACS workbook: DICOM headers, DICOM network logs and HL7 v2 logs as tables, findings and fixes."""
