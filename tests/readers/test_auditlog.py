import codecs

import pandas as pd
import pytest

from pacs_helpers import Site, TableError
from pacs_helpers.readers.auditlog import read_audit_log

SITE = Site(time_zone="America/Chicago")


LATIN = '<?xml version="1.0" encoding="ISO-8859-1"?>'


def audit(at="2024-03-11T09:20:00-05:00", user="jdoe", patient="00123^^^HOSP", code="csd-code", xmlns=""):
    return (f'<AuditMessage{xmlns}><EventIdentification EventActionCode="R" EventDateTime="{at}" EventOutcomeIndicator="0">'
            f'<EventID {code}="110103" codeSystemName="DCM" originalText="DICOM Instances Accessed"/><EventTypeCode {code}="110136" codeSystemName="DCM"/></EventIdentification>'
            f'<ActiveParticipant UserID="store" UserIsRequestor="false"/>'
            f'<ActiveParticipant UserID="{user}" AlternativeUserID="AETITLES=WS1_DEMO" UserIsRequestor="true" NetworkAccessPointID="10.20.0.9" NetworkAccessPointTypeCode="2"/>'
            f'<AuditSourceIdentification AuditSourceID="PACS"/>'
            f'<ParticipantObjectIdentification ParticipantObjectID="2.25.77" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="3">'
            f'<ParticipantObjectIDTypeCode {code}="110180" codeSystemName="DCM"/><ParticipantObjectDescription><Accession Number="A1"/></ParticipantObjectDescription>'
            f'</ParticipantObjectIdentification><ParticipantObjectIdentification ParticipantObjectID="{patient}" ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1">'
            f'<ParticipantObjectIDTypeCode {code}="2" codeSystemName="RFC-3881"/></ParticipantObjectIdentification></AuditMessage>').encode()


@pytest.fixture
def load(tmp_path):
    def load(data):
        (tmp_path / "audit.log").write_bytes(data)
        got = read_audit_log(tmp_path, site=SITE)
        source = got.sources.iloc[0]
        assert source["n_bytes"] == len(data) == source["n_bytes_in_rows"] + source["n_bytes_rejected"] + source["n_bytes_framing"]
        return got
    return load


def test_each_column_comes_from_its_place_in_the_message(load):
    row = load(audit()).audit.iloc[0]
    want = {"event_id": "110103", "event_type": "110136", "is_zoned": True, "action": "R", "outcome": "0", "user_id": "jdoe", "requestor": "AETITLES=WS1_DEMO",
            "network_access_point": "10.20.0.9", "study_instance_uid": "2.25.77", "accession_number": "A1", "patient_id": "00123", "problems": "", "source_offset": 0}
    assert {name: row[name] for name in want} == want and row["event_at"] == pd.Timestamp("2024-03-11T14:20Z")


@pytest.mark.parametrize("between", [
    b"", b"\n", b"\xef\xbb\xbf", b'<?xml version="1.0" encoding="UTF-8"?>\n', b"<85>1 2024-03-11T09:20:00.5-05:00 host app 77 IHE+DICOM - \xef\xbb\xbf",
    b'\n<85>1 2024-03-11T09:20:00Z host app 77 IHE+RFC-3881 [meta a="x]y"] ', b"\n<85>Mar 11 09:20:00 host app: ", b"\n1234 <85>1 2024-03-11T09:20:00Z host app 77 ID - ",
    b"\nMar 11 09:20:00 host app[7]: ", b"<!-- next -->",
])
def test_messages_follow_each_other_in_any_wrapping(load, between):
    got = load(between.lstrip() + audit(user="a") + between + audit(user="b") + between + audit(user="c") + b"\n")
    assert got.audit["user_id"].tolist() == ["a", "b", "c"] and len(got.rejected) == 0


def test_a_root_around_them_is_framing(load):
    assert load(b"<AuditMessages>" + audit() * 2 + b"</AuditMessages>").rejected.empty


def test_names_of_rfc_3881_and_namespaces_are_known(load):
    prefixed = audit().replace(b"<AuditMessage>", b'<a:AuditMessage xmlns:a="urn:x">').replace(b"</AuditMessage>", b"</a:AuditMessage>")
    got = load(audit(code="code") + audit(xmlns=' xmlns="http://www.dcm4che.org/DICOM/audit-message"') + prefixed)
    assert got.audit[["event_id", "study_instance_uid", "patient_id"]].values.tolist() == [["110103", "2.25.77", "00123"]] * 3


def test_one_bad_message_of_three_is_rejected_and_the_others_are_kept(load):
    got = load(audit(user="a") + b"\n" + audit(user="b").replace(b"<AuditSource", b"<<AuditSource") + b"\n" + audit(user="c"))
    assert got.audit["user_id"].tolist() == ["a", "c"] and got.rejected["code"].tolist() == ["XML_NOT_WELL_FORMED"]
    got = load(audit(user="a") + b"\n" + audit(user="b")[:300] + b"\n" + audit(user="c"))
    assert got.audit["user_id"].tolist() == ["a", "c"] and got.rejected[["code", "n_bytes"]].values.tolist() == [["XML_NOT_WELL_FORMED", 300]]
    got = load(audit(user="a") + b"\n" + audit(user="b")[:300])
    assert got.audit["user_id"].tolist() == ["a"] and got.rejected["code"].tolist() == ["TRUNCATED"]


@pytest.mark.parametrize(("before", "code"), [
    (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "yyyy"><!ENTITY z "&x;&x;">]>', "XML_ENTITY"), (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "XML_ENTITY"),
    (b'<!DOCTYPE AuditMessage SYSTEM "http://example.org/a.dtd">', "XML_DTD"),
])
def test_document_types_and_entities_are_rejected_before_parsing(load, before, code):
    got = load(audit(user="a") + b"\n" + before + audit(user="b") + b"\n" + audit(user="c"))
    assert got.audit["user_id"].tolist() == ["a", "c"] and got.rejected["code"].tolist() == [code]
    assert "passwd" not in got.rejected["reason"][0]


def test_an_entity_that_nobody_defined_is_rejected(load):
    assert load(audit(user="&x;")).rejected["code"].tolist() == ["XML_ENTITY"]


@pytest.mark.parametrize(("encoding", "declared", "problems"), [
    ("utf-8", "", ""), ("latin-1", LATIN, ""), ("latin-1", "", "CHARSET_MISMATCH"), ("utf-8", LATIN, "CHARSET_MISMATCH"),
])
def test_text_is_right_whatever_the_prolog_says(load, encoding, declared, problems):
    row = load(declared.encode() + audit(user="MÜLLER").decode().encode(encoding)).audit.iloc[0]
    assert [row["user_id"], row["problems"]] == ["MÜLLER", problems]


@pytest.mark.parametrize(("text", "at", "is_zoned", "problems"), [
    ("2024-03-11T09:20:00.25-05:00", "2024-03-11T14:20:00.25Z", True, ""), ("2024-03-11T14:20:00Z", "2024-03-11T14:20Z", True, ""),
    ("2024-03-11T09:20:00", "2024-03-11T14:20Z", False, ""), ("2024-03-11T09:20", "2024-03-11T14:20Z", False, ""), ("2024-03-11T09:20:00.123456789-0500", "2024-03-11T14:20:00.123456Z", True, ""),
    ("11.03.2024", None, None, "BAD_TIME"), ("2024-13-11T09:20:00Z", None, True, "BAD_TIME"), ("", None, None, "MISSING_FIELD"), ("2024-11-03T01:30:00", "2024-11-03T06:30Z", False, "AMBIGUOUS_TIME"),
])
def test_times_keep_their_offset_and_doubts(load, text, at, is_zoned, problems):
    row = load(audit(at=text)).audit.iloc[0]
    assert row["event_at"] == pd.Timestamp(at) if at else pd.isna(row["event_at"])
    assert (None if pd.isna(row["is_zoned"]) else row["is_zoned"], row["problems"]) == (is_zoned, problems)


@pytest.mark.parametrize(("data", "code"), [(b"", "EMPTY_FILE"), (b"hello\n", "UNKNOWN_FORMAT"), (codecs.BOM_UTF16_LE + audit().decode().encode("utf-16-le"), "UNKNOWN_FORMAT")])
def test_a_file_without_messages_is_one_rejected_row(load, data, code):
    assert load(data).rejected["code"].tolist() == [code]


def test_chatter_between_messages_is_rejected_and_costs_none(load):
    got = load(audit() + b"\nrestarted the repository\n" + audit() + b" trailing")
    assert len(got.audit) == 2 and got.rejected["code"].tolist() == ["NOT_AUDIT", "NOT_AUDIT"]


def test_a_file_cut_at_any_byte_is_accounted_for(load):
    data = b"<85>1 2024-03-11T09:20:00Z host app 77 ID - " + audit() + b"\n"
    for n in range(1, len(data)):
        assert len(load(data[:n]).audit) <= 1


def test_site_must_be_a_site(tmp_path):
    with pytest.raises(TableError, match="a Site is needed"):
        read_audit_log(tmp_path, site=None)
