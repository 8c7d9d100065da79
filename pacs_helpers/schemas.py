"""The columns of every table: name -> (dtype, meaning with its DICOM tag or HL7 field)."""

TEXT, INSTANT, COUNT, MEASURE, FLAG = "str", "datetime64[us, UTC]", "Int64", "float64", "boolean"

MILESTONES = ("ordered", "scheduled", "arrived", "exam_started", "exam_ended", "images_available", "opened",
              "dictated", "preliminary", "final", "addended", "delivered", "cancelled")
SOURCES_OF_EVENTS = ("hl7", "dicom", "mpps", "network", "audit", "ris")
PRECISIONS = ("year", "month", "day", "hour", "minute", "second")
OUTCOMES = ("released", "aborted", "rejected", "failed", "unfinished")
BYTES_SOURCES = ("exact", "pdv_dots", "mb_rounded", "joined", "missing")
SERVICES = ("C-ECHO", "C-STORE", "C-FIND", "C-MOVE", "C-GET", "N-CREATE", "N-SET", "N-ACTION", "N-EVENT-REPORT")
STATUS_CATEGORIES = ("Success", "Warning", "Failure", "Cancel", "Pending")
FINDING_CODES = ("U01", "U02", "U03", "U04", "U05a", "U05b", "U05c", "U05d", "U05e", "U06", "U07", "U08", "U09", "U10",
                 "U11", "U12", "U13", "U14", "U15", "U16", "U17", "U18")
OWNERS = ("technologist", "modality service", "interface team", "registration", "radiologist", "network",
          "PACS administrator", "RIS", "scheduling", "vendor", "nobody")
NOT_IMAGES = ("SR", "KO", "PR", "SEG", "DOC")       # modalities of what is stored beside images
DRAFT_SYSTEMS = ("hl7", "dcmodify", "orthanc", "work_order")
LANES = ("patient", "order", "dicom", "network", "report", "acknowledgment")

_WHERE = {"source_file": (TEXT, "file the row was read from"), "source_offset": (COUNT, "byte where it starts there")}
_TRACED = {**_WHERE, "problems": (TEXT, "space-separated problem codes, empty when clean")}
_RAW = {"precision": (TEXT, "`column=precision` for each time coarser than a second"),
        "raw": (TEXT, "JSON of values as the file spelled them, where the table shows them otherwise")}
_PERSON = {
    "patient_id": (TEXT, "(0010,0020); PID-3.1"),
    "issuer_of_patient_id": (TEXT, "(0010,0021); PID-3.4"),
    "patient_name": (TEXT, "(0010,0010); PID-5, components joined by ^"),
    "patient_birth_date": (TEXT, "(0010,0030); PID-7, YYYYMMDD"),
    "patient_sex": (TEXT, "(0010,0040); PID-8"),
}
_EXAM = {"modality": (TEXT, "DICOM modality"), "patient_class": (TEXT, "PV1-2"), "priority": (TEXT, "OBR-5"), "section": (TEXT, "site or section, MSH-4")}
_VISIT = {"patient_class": (TEXT, "PV1-2"), "patient_location": (TEXT, "PV1-3"), "visit_number": (TEXT, "PV1-19")}

INSTANCES = {
    "sop_instance_uid": (TEXT, "(0008,0018)"), "sop_class_uid": (TEXT, "(0008,0016)"),
    "transfer_syntax_uid": (TEXT, "(0002,0010)"), "study_instance_uid": (TEXT, "(0020,000D)"),
    "series_instance_uid": (TEXT, "(0020,000E)"), "frame_of_reference_uid": (TEXT, "(0020,0052)"),
    **_PERSON,
    "accession_number": (TEXT, "(0008,0050)"),
    "requested_accession_numbers": (TEXT, "(0008,0050) of each Request Attributes (0040,0275) item, space-separated"),
    "requested_procedure_ids": (TEXT, "(0040,1001) of each Request Attributes item, space-separated"),
    "study_at": (INSTANT, "(0008,0020)+(0008,0030)"), "series_at": (INSTANT, "(0008,0021)+(0008,0031)"),
    "acquired_at": (INSTANT, "(0008,002A), else (0008,0022)+(0008,0032)"),
    "created_at": (INSTANT, "(0008,0012)+(0008,0013), modality clock"),
    "performed_started_at": (INSTANT, "(0040,0244)+(0040,0245)"),
    "modality": (TEXT, "(0008,0060)"), "body_part_examined": (TEXT, "(0018,0015)"), "laterality": (TEXT, "(0020,0060), else (0020,0062)"),
    "study_description": (TEXT, "(0008,1030)"), "series_description": (TEXT, "(0008,103E)"), "protocol_name": (TEXT, "(0018,1030)"),
    "series_number": (TEXT, "(0020,0011)"), "instance_number": (TEXT, "(0020,0013)"),
    "manufacturer": (TEXT, "(0008,0070)"), "manufacturer_model_name": (TEXT, "(0008,1090)"),
    "station_name": (TEXT, "(0008,1010)"), "institution_name": (TEXT, "(0008,0080)"), "operators_name": (TEXT, "(0008,1070)"),
    "source_ae_title": (TEXT, "(0002,0016)"), "n_frames": (COUNT, "(0028,0008), 1 when absent and pixels are described"),
    "n_instances": (COUNT, "(0020,1209) or (0020,1208) of an archive's answer, missing for a file"),
    "n_bytes": (COUNT, "size of the file"),
    **_RAW, **_TRACED,
}
PERFORMED_STEPS = {
    "sop_instance_uid": (TEXT, "(0008,0018), or (0000,1000) of its N-CREATE"),
    "performed_procedure_step_id": (TEXT, "(0040,0253)"), "started_at": (INSTANT, "(0040,0244)+(0040,0245)"),
    "ended_at": (INSTANT, "(0040,0250)+(0040,0251)"), "status": (TEXT, "(0040,0252)"),
    "discontinuation_reason": (TEXT, "(0040,0281) code meaning"), "study_instance_uid": (TEXT, "(0020,000D) of (0040,0270)"),
    "accession_number": (TEXT, "(0008,0050) of (0040,0270)"), "patient_id": (TEXT, "(0010,0020)"),
    "modality": (TEXT, "(0008,0060)"), "station_ae_title": (TEXT, "(0040,0241)"), **_TRACED,
}
MESSAGES = {
    "message_control_id": (TEXT, "MSH-10"), "message_at": (INSTANT, "MSH-7"), "received_at": (INSTANT, "stamp of the engine's log"),
    "message_type": (TEXT, "MSH-9.1"), "trigger_event": (TEXT, "MSH-9.2"), "sending_application": (TEXT, "MSH-3"),
    "sending_facility": (TEXT, "MSH-4"), "receiving_application": (TEXT, "MSH-5"), "version": (TEXT, "MSH-12"),
    "character_set": (TEXT, "MSH-18"),
    **_PERSON, "other_patient_ids": (TEXT, "PID-3 repetitions after the first and PID-2, PID-4, as id^^^issuer, space-separated"),
    "prior_patient_id": (TEXT, "MRG-1.1"), **_VISIT,
    "order_control": (TEXT, "ORC-1"), "placer_order_number": (TEXT, "ORC-2.1, else OBR-2.1"),
    "filler_order_number": (TEXT, "ORC-3.1, else OBR-3.1"), "order_status": (TEXT, "ORC-5"), "transaction_at": (INSTANT, "ORC-9"),
    "procedure_code": (TEXT, "OBR-4.1"), "procedure_name": (TEXT, "OBR-4.2"), "priority": (TEXT, "OBR-5, else OBR-27.6, ORC-7.6, TQ1-9"),
    "observed_at": (INSTANT, "OBR-7"), "observation_ended_at": (INSTANT, "OBR-8"), "status_changed_at": (INSTANT, "OBR-22"),
    "modality": (TEXT, "OBR-24"), "result_status": (TEXT, "OBR-25, else OBX-11, through site.statuses"),
    "scheduled_at": (INSTANT, "ORC-7.4, else TQ1-7, OBR-27.4, OBR-36, SCH-11.4"),
    "accession_number": (TEXT, "the field that site.hl7_field names, or the one measured to hold it"),
    "requested_procedure_id": (TEXT, "OBR-19"), "study_instance_uid": (TEXT, "ZDS-1.1, else IPC-3, else a UID in OBX-5"),
    "principal_interpreter": (TEXT, "OBR-32.1"), "n_observations": (COUNT, "OBX segments of the group"),
    "acknowledged_control_id": (TEXT, "MSA-2"), "acknowledgment_code": (TEXT, "MSA-1"), "error_text": (TEXT, "MSA-3, else ERR-8"),
    "direction": (TEXT, "in or out, as the engine's log says"), "peer": (TEXT, "address the engine's log names"),
    "event_at": (INSTANT, "EVN-2"),
    "obr_2": (TEXT, "OBR-2.1"), "obr_3": (TEXT, "OBR-3.1"), "obr_18": (TEXT, "OBR-18.1"), "obr_20": (TEXT, "OBR-20.1"),
    "orc_2": (TEXT, "ORC-2.1"), "orc_3": (TEXT, "ORC-3.1"), "ipc_1": (TEXT, "IPC-1.1"),
    **_RAW, **_TRACED,
}
ASSOCIATIONS = {
    "association_id": (TEXT, "unique within the load"), "calling_ae_title": (TEXT, "requestor"), "called_ae_title": (TEXT, "acceptor"),
    "peer_address": (TEXT, "host or IP of the requestor"), "started_at": (INSTANT, "request received"), "ended_at": (INSTANT, "released or aborted"),
    "outcome": (OUTCOMES, "how it ended; missing when the format does not tell"), "reason": (TEXT, "why it was rejected, aborted or failed"),
    "n_operations": (COUNT, "DIMSE operations seen"), "n_stored": (COUNT, "C-STORE answered Success or Warning"),
    "n_failed": (COUNT, "operations answered Failure"), "n_bytes": (COUNT, "bytes of the stored data sets"),
    "n_bytes_source": (BYTES_SOURCES, "what n_bytes stands on"), "is_ambiguous": (FLAG, "the log does not tell parallel associations apart"), **_TRACED,
}
OPERATIONS = {
    "association_id": (TEXT, "association it ran on"), "service": (SERVICES, "DIMSE service"), "started_at": (INSTANT, "request"),
    "ended_at": (INSTANT, "response"), "data_ended_at": (INSTANT, "last byte of the data set, where the source tells: captures do"),
    "calling_ae_title": (TEXT, "requestor"), "called_ae_title": (TEXT, "acceptor"),
    "status_code": (TEXT, "(0000,0900), four hex digits"), "status_category": (STATUS_CATEGORIES, "PS3.7 Annex C"),
    "sop_class_uid": (TEXT, "(0000,0002)"), "sop_instance_uid": (TEXT, "(0000,1000)"), "modality": (TEXT, "from the SOP class or the log"),
    "n_instances": (COUNT, "C-STOREs that the row stands for, where it is a line about several"),
    "n_bytes": (COUNT, "bytes of the data sets"), "n_bytes_source": (BYTES_SOURCES, "what n_bytes stands on"), **_TRACED,
}
EXAMS = {
    "accession_number": (TEXT, "exam"), **_PERSON, "placer_order_number": (TEXT, "of the order"), "filler_order_number": (TEXT, "of the department"),
    "study_instance_uid": (TEXT, "study, if the RIS knows it"), "modality": (TEXT, "as the RIS writes it"), "procedure_code": (TEXT, "exam code"),
    "procedure_name": (TEXT, "exam name"), "patient_class": (TEXT, "inpatient, outpatient ..."), "priority": (TEXT, "as the RIS writes it"), "section": (TEXT, "site or section"),
    "result_status": (TEXT, "as the RIS writes it"), "principal_interpreter": (TEXT, "who reads it"),
    **{f"{milestone}_at": (INSTANT, f"when it was {milestone.replace('_', ' ')}") for milestone in MILESTONES}, **_RAW, **_TRACED,
}
AUDIT = {
    "event_id": (TEXT, "EventID, a code of DCM such as 110103, DICOM Instances Accessed"), "event_type": (TEXT, "EventTypeCode, all of them, space-separated"),
    "event_at": (INSTANT, "EventDateTime"), "is_zoned": (FLAG, "EventDateTime has an offset"), "action": (TEXT, "EventActionCode: C, R, U, D or E"),
    "outcome": (TEXT, "EventOutcomeIndicator: 0 success, 4 minor, 8 serious, 12 major failure"), "user_id": (TEXT, "UserID of who asked for it"),
    "requestor": (TEXT, "AlternativeUserID of the same, which names AE titles"), "network_access_point": (TEXT, "NetworkAccessPointID of the same"),
    "study_instance_uid": (TEXT, "ParticipantObjectID of type 110180, space-separated"), "accession_number": (TEXT, "Accession Number, space-separated"),
    "patient_id": (TEXT, "ParticipantObjectID of the patient, before the first ^"), "raw": (TEXT, "JSON of values that the table shows otherwise"), **_TRACED,
}
REJECTED = {**_WHERE, "n_bytes": (COUNT, "length of what was not used"), "code": (TEXT, "why, as a code"), "reason": (TEXT, "where, what was expected, what to do")}
SOURCES = {
    "source_file": (TEXT, "file"), "n_bytes": (COUNT, "size as read, inflated when packed"), "n_bytes_in_rows": (COUNT, "bytes that became rows"),
    "n_bytes_rejected": (COUNT, "bytes in rejected"), "n_bytes_framing": (COUNT, "line ends, MLLP bytes, known chatter"),
    "n_rows": (COUNT, "rows of the first table"), "n_rejected": (COUNT, "rows of rejected"), "sha256": (TEXT, "of the file as it lies on disk"),
    "modified_at": (INSTANT, "of the file"), "seconds": (MEASURE, "time taken"),
}
UPDATES = {
    "kind": (TEXT, "hl7, dicom, network, audit or ris"), "source_file": (TEXT, "file"), "n_bytes": (COUNT, "size on disk"),
    "what": (("new", "grown", "changed", "reread", "moved", "unchanged", "gone", "dropped"), "what became of it since the last update; only the first four were read"),
}
ORDERS = {
    "accession_number": (TEXT, "one row each; empty only where an order names none"), "placer_order_number": (TEXT, "ORC-2"),
    "filler_order_number": (TEXT, "ORC-3"), "requested_procedure_id": (TEXT, "OBR-19"), "study_instance_uid": (TEXT, "ZDS-1"),
    **_PERSON, **_VISIT, "priority": (TEXT, "OBR-5"), "modality": (TEXT, "DICOM modality, OBR-24 RAD/NMR translated"),
    "procedure_code": (TEXT, "OBR-4.1"), "procedure_name": (TEXT, "OBR-4.2"), "order_control": (TEXT, "last ORC-1"),
    "order_status": (TEXT, "last ORC-5, through site.statuses"), "is_cancelled": (FLAG, "ORC-1 CA/OC/DC or ORC-5 CA was the last word"),
    "ordered_at": (INSTANT, "first NW"), "scheduled_at": (INSTANT, "last"), "section": (TEXT, "MSH-4 of the order"),
    "n_messages": (COUNT, "messages about it"), "message_control_id": (TEXT, "last of them"), **_TRACED,
}
STUDIES = {
    "study_instance_uid": (TEXT, "one row each"), "accession_number": (TEXT, "most frequent non-empty (0008,0050)"),
    "requested_accession_numbers": (TEXT, "all of the instances, space-separated, sorted"),
    "requested_procedure_ids": (TEXT, "all of the instances, space-separated, sorted"), **_PERSON,
    "modality": (TEXT, "first that is not SR, KO, PR, else the first"), "body_part_examined": (TEXT, "all, space-separated"), "laterality": (TEXT, "all, space-separated"),
    "study_description": (TEXT, "(0008,1030)"), "study_at": (INSTANT, "(0008,0020)+(0008,0030)"),
    "started_at": (INSTANT, "first acquisition"), "ended_at": (INSTANT, "last acquisition"), "last_created_at": (INSTANT, "(0008,0012)+(0008,0013), the last of its images"),
    "station_name": (TEXT, "(0008,1010)"), "manufacturer": (TEXT, "(0008,0070)"), "manufacturer_model_name": (TEXT, "(0008,1090)"),
    "institution_name": (TEXT, "(0008,0080)"), "operators_name": (TEXT, "(0008,1070)"), "source_ae_title": (TEXT, "(0002,0016)"),
    "frame_of_reference_uids": (TEXT, "all, space-separated, sorted"), "n_series": (COUNT, "distinct series"), "n_instances": (COUNT, "distinct SOP instances"),
    "n_bytes": (COUNT, "sum of the files"), "clashing_study_uids": (TEXT, "studies of other patients with one of its SOP Instance UIDs, space-separated"), **_TRACED,
}
SERIES = {
    "study_instance_uid": (TEXT, "study it is in"), "series_instance_uid": (TEXT, "one row each within its study"), "accession_number": (TEXT, "first non-empty (0008,0050)"),
    "patient_id": (TEXT, "first non-empty (0010,0020)"), "requested_accession_numbers": (TEXT, "all, space-separated, sorted"), "modality": (TEXT, "(0008,0060)"),
    "series_number": (TEXT, "(0020,0011)"), "series_description": (TEXT, "(0008,103E)"), "protocol_name": (TEXT, "(0018,1030)"),
    "body_part_examined": (TEXT, "all, space-separated"), "laterality": (TEXT, "all, space-separated"), "frame_of_reference_uids": (TEXT, "all, space-separated, sorted"),
    "station_name": (TEXT, "(0008,1010)"), "started_at": (INSTANT, "first acquisition"), "ended_at": (INSTANT, "last acquisition"),
    "n_instances": (COUNT, "distinct SOP instances"), "n_bytes": (COUNT, "sum of the files"), **_TRACED,
}
REPORTS = {
    "accession_number": (TEXT, "from the chosen field"), "placer_order_number": (TEXT, "ORC-2"), "filler_order_number": (TEXT, "ORC-3"),
    "other_accession_numbers": (TEXT, "differing values of the other candidate fields, space-separated"),
    "requested_procedure_id": (TEXT, "OBR-19"), "study_instance_uid": (TEXT, "ZDS-1, IPC-3 or OBX-5"), **_PERSON, **_VISIT,
    "priority": (TEXT, "OBR-5"), "modality": (TEXT, "DICOM modality"), "procedure_code": (TEXT, "OBR-4.1"), "procedure_name": (TEXT, "OBR-4.2"),
    "result_status": (TEXT, "table 0123 after site.statuses"), "status_changed_at": (INSTANT, "OBR-22, else message time"), "observed_at": (INSTANT, "OBR-7"),
    "message_at": (INSTANT, "MSH-7"), "version_number": (COUNT, "1..n per accession in order of status_changed_at, a resend has the number of what it repeats"),
    "is_duplicate": (FLAG, "the same control id, patient, accession and status came before"), "principal_interpreter": (TEXT, "OBR-32.1"),
    "section": (TEXT, "MSH-4"), "message_control_id": (TEXT, "MSH-10"), "acknowledgment_code": (TEXT, "MSA-1 of its acknowledgment; sent again unchanged, of the first that accepts, else of the last"),
    "acknowledged_at": (INSTANT, "MSH-7 of that acknowledgment"), **_TRACED,
}
PATIENTS = {
    "patient_id": (TEXT, "surviving or current id"), "prior_patient_id": (TEXT, "MRG-1, empty for an update"),
    "issuer_of_patient_id": (TEXT, "PID-3.4"), "patient_name": (TEXT, "PID-5"), "patient_birth_date": (TEXT, "PID-7"), "patient_sex": (TEXT, "PID-8"),
    "trigger_event": (TEXT, "A40, A47, A34, A08 ..."), "at": (INSTANT, "EVN-2, else MSH-7"), "message_control_id": (TEXT, "MSH-10"), **_TRACED,
}
EVENTS = {
    "accession_number": (TEXT, "exam"), "study_instance_uid": (TEXT, "study it was seen on, if any"), "milestone": (MILESTONES, "what was reached"),
    "at": (INSTANT, "when"), "source": (SOURCES_OF_EVENTS, "kind of trace"), "source_field": (TEXT, "field it was read from, such as OBR-22"),
    "source_id": (TEXT, "message control id, SOP instance or association id"), "rank": (COUNT, "1 for the best source of this milestone"),
    "precision": (PRECISIONS, "of `at`"), "problems": (TEXT, "problem codes of the time"), **_EXAM,
}
TRACE = {
    "accession_number": (TEXT, "exam"), "study_instance_uid": (TEXT, "study, if known"), "at": (INSTANT, "start"), "ended_at": (INSTANT, "end of a span, else missing"),
    "lane": (LANES, "which system spoke"), "what": (TEXT, "one line in plain words, no patient value"), "source_id": (TEXT, "message, series or association"), **_TRACED,
}
INTERVALS = {
    "accession_number": (TEXT, "exam"), "interval": (TEXT, "`start>end` milestones"), "start": (INSTANT, "start milestone"), "end": (INSTANT, "end milestone, missing while open"),
    "minutes": (MEASURE, "end - start, or as_of - start while open"), "is_open": (FLAG, "end not reached at as_of"), "is_negative": (FLAG, "end before start: clocks disagree"),
    "start_source": (TEXT, "source_field of start"), "end_source": (TEXT, "source_field of end"),
    "left_out": (TEXT, "why the row is not in the percentiles, empty when it is"),
    **_EXAM,
}
FINDINGS = {
    "finding_id": (TEXT, "code and a digest of its keys: the same in every run"), "code": (FINDING_CODES, "DOMAIN taxonomy"), "accession_number": (TEXT, "exam"),
    "study_instance_uid": (TEXT, "study or studies, space-separated"), "message_control_id": (TEXT, "message or messages, space-separated"),
    "found_at": (INSTANT, "when it was first detectable"), "owner": (OWNERS, "whose desk it is on"), "confidence": (MEASURE, "0..1"),
    "evidence": (TEXT, "one sentence"), "suggested_correction": (TEXT, "what to do"),
}
CANDIDATES = {
    "finding_id": (TEXT, "finding"), "candidate_accession_number": (TEXT, "exam"), "candidate_study_instance_uid": (TEXT, "study"),
    "score": (MEASURE, "0..1"), "reasons": (TEXT, "what agrees and what does not"),
}
DRAFTS = {
    "finding_id": (TEXT, "finding it began with"), "correction_id": (TEXT, "decision in the ledger"), "system": (DRAFT_SYSTEMS, "what it is for"),
    "step": (COUNT, "1..n within the correction, the order to go in"), "title": (TEXT, "what it is, and that it is a draft; of a work order `desk: subject`"),
    "text": (TEXT, "what a person would send or run; empty where none would be safe"), "warning": (TEXT, "why to look twice, empty when nothing is known"),
}
REHEARSAL = {
    "seq": (COUNT, "of the decision"), "correction_id": (TEXT, "decision in the ledger"), "finding_id": (TEXT, "finding it began with"), "kind": (TEXT, "of correction"),
    **{f"n_{what}{when}": (COUNT, f"{what} {words}") for what in ("studies", "series", "instances", "reports")
       for when, words in (("", "that move"), ("_before", "where they go, before"), ("_after", "where they go, after"))},
    "collisions": (TEXT, "what stands against it, in words"), "is_safe": (FLAG, "nothing is known to stand against it"),
}
THROUGHPUT = {
    "bucket_start": (INSTANT, "start of the bucket"), "calling_ae_title": (TEXT, "sender"), "called_ae_title": (TEXT, "receiver"),
    "n_instances": (COUNT, "stored"), "n_failed": (COUNT, "failed"), "n_bytes": (COUNT, "missing when no source told"),
    "n_bytes_source": (TEXT, "what n_bytes stands on"), "mbit_per_s": (MEASURE, "10^6 bits per second of the bucket"),
}
BACKLOG = {
    "interval": (TEXT, "`start>end` milestones"), "at": (INSTANT, "instant of counting"), "n_entered": (COUNT, "reached start since the row before"),
    "n_left": (COUNT, "reached end, or were cancelled, since the row before"), "n_open": (COUNT, "waiting at this instant"),
}
LINK_RATES = {
    "calling_ae_title": (TEXT, "sender"), "called_ae_title": (TEXT, "receiver"), "n_associations": (COUNT, "all of the pair"),
    "n_not_released": (COUNT, "rejected, aborted, failed or unfinished"), "n_ambiguous": (COUNT, "associations whose times cannot be trusted, out of the rates"),
    "n_instances": (COUNT, "stored"), "n_failed": (COUNT, "failed C-STOREs"), "n_bytes": (COUNT, "of the stored instances, missing when no source told"),
    "n_bytes_source": (TEXT, "what n_bytes stands on"), "association_seconds": (MEASURE, "open associations that stored something"),
    "flow_seconds": (MEASURE, "data under way"), "flow_source": (TEXT, "what flow_seconds stands on"),
    "mbit_per_s_association": (MEASURE, "bytes of timed associations over their seconds: not the speed of the link"),
    "mbit_per_s_flow": (MEASURE, "bytes of timed C-STOREs over flow_seconds"), "instances_per_s": (MEASURE, "instances of timed associations over their seconds"),
    "mean_object_mbytes": (MEASURE, "10^6 bytes per instance with a known size"),
}
