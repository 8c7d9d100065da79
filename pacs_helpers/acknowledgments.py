"""Which acknowledgment answers which message: MSA-2 names MSH-10 (HL7 v2 chapter 2.9), and feeds send a message again until it is accepted."""

import pandas as pd

from .tables import require_columns

ACCEPTING = ("AA", "CA")        # HL7 table 0008
_SENT = ["source_file", "source_offset", "message_control_id", "sending_application", "message_type", "trigger_event", "message_at", "received_at"]


def in_time(rows, *columns):
    """`rows` by the first of `columns` that is filled, a row without any after the one before it in its file."""
    at = rows[columns[0]]
    for column in columns[1:]:
        at = at.fillna(rows[column])
    return rows.assign(_at=at.groupby(rows["source_file"], sort=False).ffill()).sort_values("_at", kind="stable", na_position="first")


def pair_acknowledgments(messages):
    """One row per message sent with a control id, and its answer: the columns that say which it is, then sending_number (1, 2 ... of its control id),
    acknowledgment_code ("" when nobody answered), error_text, acknowledged_at and acknowledgment_control_id.

    The n-th sending of a control id goes with the n-th answer to it, the last sending with all further ones, for it was sent again unchanged:
    of those the first that accepts, else the last. Systems count alike, so an answer counts for the sender it names in MSH-5 if that sender used the control id.
    A copy of a message in another file is another record of the same sending.
    """
    require_columns(messages, [*_SENT, "problems", "acknowledged_control_id", "acknowledgment_code", "error_text", "receiving_application"], "messages")
    sent = messages[(messages["message_control_id"] != "") & (messages["acknowledged_control_id"] == "")].drop_duplicates(["source_file", "source_offset"])
    here = sent["source_file"] + "\n" + sent["message_control_id"] + "\n" + sent["sending_application"]
    is_copy = sent["problems"].str.contains(r"\bDUPLICATE_MESSAGE\b")
    sent = in_time(sent[~is_copy | here.isin(here[~is_copy])], "message_at")
    mine = sent["message_control_id"] + "\n" + sent["sending_application"]
    sent = sent.assign(key=mine, n=sent.groupby(mine).cumcount())
    told = in_time(messages[messages["acknowledged_control_id"] != ""], "message_at")
    theirs = told["acknowledged_control_id"] + "\n" + told["receiving_application"]
    any_sender = sent.drop_duplicates("message_control_id").set_index("message_control_id")["key"].reindex(told["acknowledged_control_id"]).set_axis(told.index)
    told = told.assign(key=theirs.where(theirs.isin(sent["key"]), any_sender)).dropna(subset="key")
    last = sent.groupby("key")["n"].max().reindex(told["key"]).set_axis(told.index)
    told = told.assign(n=told.groupby("key").cumcount().clip(upper=last))
    accepts = told["acknowledgment_code"].isin(ACCEPTING)
    told = pd.concat([told[accepts], told[~accepts].iloc[::-1]]).drop_duplicates(["key", "n"])
    answer = told[["key", "n", "acknowledgment_code", "error_text", "message_at", "message_control_id"]].rename(
        columns={"message_at": "acknowledged_at", "message_control_id": "acknowledgment_control_id"})
    pairs = sent[[*_SENT, "key", "n"]].merge(answer, on=["key", "n"], how="left").assign(sending_number=lambda p: p["n"] + 1)
    texts = ["acknowledgment_code", "error_text", "acknowledgment_control_id"]
    return pairs.assign(**{c: pairs[c].fillna("") for c in texts})[[*_SENT, "sending_number", "acknowledgment_code", "error_text", "acknowledged_at", "acknowledgment_control_id"]]
