import json

from pacs_helpers import Site, pair_acknowledgments, read_hl7_log


def test_every_message_of_the_recorded_day_has_the_answer_that_it_was_given(shared):
    messages = read_hl7_log(shared / "rig/logs/hl7", site=Site(time_zone="UTC")).messages
    got = pair_acknowledgments(messages).groupby("message_control_id")["acknowledgment_code"].last().to_dict()
    sent = [json.loads(line) for line in (shared / "rig/hl7/messages.jsonl").read_text(encoding="utf-8").splitlines()]
    assert got == {one["cid"]: one["expect"] for one in sent}
