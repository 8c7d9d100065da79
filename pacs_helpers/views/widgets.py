"""What a person touches: the fix bench and the exam case file. State is visible tables; every button is one line."""

import hashlib
import html
import io

import ipywidgets as w
import matplotlib.pyplot as plt

from ..analyses.links import merged_ids
from ..analyses.matching import rank_candidates
from ..fixes.applied import apply_corrections
from ..fixes.corrections import REASONS, count_records, read_corrections, record_correction, undo_correction
from ..fixes.ledger import LedgerError
from ..tables import TableError
from .axes import FINDING_NAMES
from .casefile import plot_exam
from .comparison import comparison_table, sides_of
from .keyguard import KeyGuard

ALL = "all"
MANY_STUDIES = ("U08", "U09", "U10")
ID_REASONS = {"U05a": "TYPED_WRONG", "U05b": "ID_FORMAT", "U05c": "MERGED", "U05d": "IDENTITY_CONFIRMED"}
WIDE = {"width": "100%"}


class FixBench:
    """The widget that steps through `findings`: compare, choose a candidate, accept, reject, correct a patient ID, undo.

    Each decision is one record of the ledger at `ledger`, made in the name of `decided_by`. `bench.findings` are those in view,
    `bench.decisions` what stands in the ledger, `bench.finding` the one shown: it stays the one decided on, whatever others do meanwhile.
    """

    def __init__(self, findings, dept, *, ledger, decided_by, site, candidates=None):
        self.dept, self.ledger, self.decided_by, self.site = dept, ledger, decided_by, site
        self.candidates = rank_candidates(findings, dept, site=site) if candidates is None else candidates
        surest = self.candidates.groupby("finding_id")["score"].max()
        # Quick wins first: what has a sure partner takes a glance, what has none takes a phone call.
        order = findings["finding_id"].map(surest.to_dict()).fillna(0).astype(float)
        self.all_findings = findings.loc[order.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
        self.position, self.seen, self.finding = 0, 0, None
        self._make_widgets()
        self._show()

    @property
    def decisions(self):
        return read_corrections(self.ledger)

    @property
    def findings(self):
        """The undecided findings that the chosen desk and kind leave in view."""
        left = self.all_findings[~self.all_findings["finding_id"].isin(self.decisions["finding_id"])]
        for column, chosen in (("owner", self.owner.value), ("code", self.code.value)):
            left = left if chosen == ALL else left[left[column] == chosen]
        return left.reset_index(drop=True)

    # The view

    def _make_widgets(self):
        known = self.all_findings
        self.owner = w.Dropdown(options=[ALL, *sorted(known["owner"].dropna().unique())], description="Desk", style={"description_width": "3rem"}, layout={"width": "14rem"})
        kinds = [(f"{code} {FINDING_NAMES[code]}", code) for code in sorted(known["code"].dropna().astype(str).unique())]
        self.code = w.Dropdown(options=[(ALL, ALL), *kinds], description="Kind", style={"description_width": "3rem"}, layout={"width": "16rem"})
        self.back, self.next = (w.Button(description=name, layout={"width": "5.5rem"}) for name in ("Previous", "Next"))
        self.progress, (self.title, self.sides, self.plan, self.message) = w.Label(layout={"flex": "none"}), (w.HTML(layout=WIDE) for _ in range(4))
        self.choice = w.Select(rows=3, description="Candidates", layout={"width": "100%", "height": "5.2rem"}, style={"description_width": "6rem"})
        self.patient_id = w.Text(description="Patient ID", layout={"width": "22rem"}, style={"description_width": "6rem"})
        self.note = w.Text(description="Note", placeholder="why, in a few words", layout={"width": "32rem"}, style={"description_width": "3rem"})
        self.accept = w.Button(description="Accept match", button_style="success", tooltip="Record that the chosen candidate is the partner")
        self.reject = w.Button(description="No match here", tooltip="Record that this was reviewed and has no partner, or is no error")
        self.save_id = w.Button(description="Save patient ID", tooltip="Record that the images belong to this patient ID")
        self.undo = w.Button(description="Undo last", tooltip="Take back the last decision that stands, by a new record")
        for button, action in ((self.back, lambda _: self.step(-1)), (self.next, lambda _: self.step(1)), (self.accept, lambda _: self.accept_match()),
                               (self.reject, lambda _: self.reject_match()), (self.save_id, lambda _: self.save_patient_id()), (self.undo, lambda _: self.undo_last())):
            button.on_click(action)
        for chooser in (self.owner, self.code):
            chooser.observe(lambda _: self._restart(), "value")
        self.choice.observe(lambda _: self._show_sides(), "value")
        rows = [w.HBox([self.owner, self.code, self.back, self.next, self.progress]), self.title, self.choice, self.sides, self.plan,
                w.HBox([self.patient_id, self.save_id]), w.HBox([self.accept, self.reject, self.undo, self.note]), self.message]
        self.box = w.VBox([KeyGuard(), *rows], layout={"border": "1px solid #c8c8cc", "padding": "12px", "width": "100%"})
        self.box.add_class("pacs-keys")

    def _restart(self):
        self.position, self.finding, self.message.value = 0, None, ""
        self._refresh()

    def _refresh(self, by=0):
        try:
            self._show(by)
        except LedgerError as error:
            self._say(str(error), bad=True)

    def _show(self, by=0):
        self.seen = count_records(self.ledger)      # first: what is written after this was not seen
        view, decisions, self.now = self.findings, self.decisions, apply_corrections(self.dept, self.ledger)
        ids, last = view["finding_id"].tolist(), self.finding and self.finding["finding_id"]
        self.position = ids.index(last) + by if last in ids else self.position + min(by, 0)
        n = len(view)
        self.position = max(0, min(self.position, n - 1))
        self.finding = finding = view.iloc[self.position].to_dict() if n else None
        self.progress.value = f"{self.position + 1} of {n} open; {len(decisions)} decided" if n else f"none open; {len(decisions)} decided"
        for button in (self.reject, self.choice, self.patient_id, self.note):
            button.disabled = finding is None
        self.undo.disabled = not (decisions["user"] == self.decided_by).any()
        self.back.disabled, self.next.disabled = self.position == 0, self.position >= n - 1
        self.title.value = title_of_finding(finding) if finding else "<p><strong>Nothing left to decide here.</strong> Choose another desk or kind, or apply the corrections.</p>"
        mine = self.candidates[self.candidates["finding_id"] == finding["finding_id"]] if finding else self.candidates.head(0)
        self.choice.options = [(describe_candidate(row), i) for i, row in mine.iterrows()]
        self.choice.index = None                # nothing is chosen until a person chooses
        self._show_sides()

    def _chosen(self):
        return self.candidates.loc[self.choice.value].to_dict() if self.choice.value is not None else {}

    def _show_sides(self):
        finding, chosen = self.finding, self._chosen()
        if finding is None:
            self.sides.value, self.plan.value, self.patient_id.value, self.save_id.disabled, self.accept.disabled = "", "", "", True, True
            return
        self.accept_as = match_decision(finding, chosen, self.now, self.site) if chosen or finding["code"] in MANY_STUDIES else None
        self.accept.disabled = self.accept_as is None
        feed, study = sides_of(finding, self.now, self.site, chosen.get("candidate_accession_number", ""), chosen.get("candidate_study_instance_uid", "").split(" ")[0])
        self.id_as = id_decision(finding, feed, study, self.now)
        self.sides.value, self.plan.value = comparison_table(feed, study), plan_of(self.accept_as, self.id_as, bool(self.choice.options))
        self.patient_id.value, self.save_id.disabled = self.id_as.get("new", ""), not self.id_as

    # The decisions

    def step(self, by):
        self.message.value, self.note.value = "", ""
        self._refresh(by)

    def accept_match(self):
        if self.finding is None or self.accept_as is None:
            return self._say("Choose a candidate first.")
        return self._record(**self.accept_as)

    def reject_match(self):
        return self._record(kind="dismiss", target=self.finding["finding_id"], reason="NO_PARTNER") if self.finding else None

    def save_patient_id(self):
        new = self.patient_id.value.strip()
        if self.finding is None or not self.id_as:
            return None
        if new == self.id_as["old"] or not new:
            return self._say("This patient ID stands there already; nothing to record." if new else "Type the patient ID first.")
        return self._record(**self.id_as | {"new": new})

    def undo_last(self):
        return self._try(self._undo_own, "Undone.")

    def _undo_own(self):
        own = self.decisions[self.decisions["user"] == self.decided_by]
        if own.empty:
            raise TableError("Nothing of yours to undo.")
        return undo_correction(self.ledger, own["id"].iloc[-1], decided_by=self.decided_by, text=self.note.value)

    def _record(self, **decision):
        finding = self.finding
        shown = hashlib.sha256((finding["evidence"] + self.sides.value + self.plan.value).encode()).hexdigest()
        return self._try(lambda: record_correction(self.ledger, **decision, text=self.note.value, evidence=f"{finding['evidence']} [shown {shown[:16]}]",
                                                   decided_by=self.decided_by, finding_id=finding["finding_id"], expect=self.seen), "Saved.")

    def _try(self, action, words):
        try:
            record = action()
        except (LedgerError, TableError) as error:
            if getattr(error, "code", "") == "CONFLICT":
                self._refresh()
            return self._say(f"NOT saved. {error}", bad=True)
        self.note.value = ""
        self.finding = record if record["op"] == "undo" else self.finding
        self._refresh()
        if not self.choice.disabled:
            self.choice.focus()                 # a pressed button that is disabled now would leave the keyboard nowhere
        return self._say(f"{words} Record {record['seq']}: {record['kind']}, {record['finding_id'] or record['target']}.")

    def _say(self, words, bad=False):
        self.message.value = f"<span role='status' style='{'color:#a40000;font-weight:600' if bad else 'color:#1a5e20'}'>{html.escape(words)}</span>"

    def _repr_mimebundle_(self, **_):
        bundle = self.box._repr_mimebundle_()
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        still = f"<p><em>Fix bench, {html.escape(self.progress.value)}. Run the notebook to use it.</em></p>{self.title.value}{self.sides.value}"
        return {**bundle, "text/html": still, "text/plain": f"Fix bench: {self.progress.value}"}


def title_of_finding(finding):
    """The finding as HTML: code, desk, confidence, evidence and what to do, all escaped."""
    e = {k: html.escape(str(v)) for k, v in finding.items()}
    return (f"<div style='margin:6px 0;line-height:1.6'><strong style='font-size:1.1em'>{e['code']} {FINDING_NAMES[finding['code']]}, on the desk of: {e['owner']}</strong>"
            f" &nbsp; accession {e['accession_number'] or 'none'}, confidence {finding['confidence']:.0%}<br>{e['evidence']}<br><em>{e['suggested_correction']}</em></div>")


def describe_candidate(row):
    """A candidate in one line: score, accession number and the reasons."""
    return f"{row['score']:.0%}   {row['candidate_accession_number'] or 'no accession'}   {row['reasons']}"


def current_id(patient_id, dept):
    """The patient ID after the merges that registration has announced."""
    return merged_ids(dept.patients).get(patient_id, patient_id)


def match_decision(finding, chosen, dept, site):
    """What accepting means, as arguments of record_correction: merge several studies, mend an ID, or link a report or study to the exam."""
    if finding["code"] in MANY_STUDIES:
        uids = finding["study_instance_uid"]
        numbers = " ".join(n for n in dict.fromkeys(dept.studies.loc[dept.studies["study_instance_uid"].isin(uids.split()), "accession_number"]) if n)
        return {"kind": "merge", "target": uids, "old": numbers, "new": finding["accession_number"], "reason": "SPLIT_BY_DEVICE"} if " " in uids else _right_as_it_is(finding)
    accession, own, offered = chosen["candidate_accession_number"], finding["study_instance_uid"].split(), chosen["candidate_study_instance_uid"].split()
    uid = next((u for u in offered if u in own), own[0] if own else "")
    messages = finding["message_control_id"]
    if finding["code"].startswith("U05") and uid:
        feed, study = sides_of(finding, dept, site, accession, uid)
        decision = id_decision(finding, feed, study, dept)
        return decision if decision.get("new", "") not in ("", decision.get("old", "")) else _right_as_it_is(finding)
    if messages and accession:
        olds = dept.reports.loc[dept.reports["message_control_id"].isin(messages.split()), "accession_number"].unique()
        return _link(finding, messages, " ".join(olds), accession, "REPORT_MISFILED", site)
    if uid and accession:
        return _link(finding, uid, _accession_of(dept, uid), accession, "WRONG_PICK", site)
    if offered and not uid:
        return _link(finding, offered[0], _accession_of(dept, offered[0]), finding["accession_number"], "WRONG_PICK", site)
    return _right_as_it_is(finding)


def _link(finding, target, old, new, reason, site):
    if {site.clean_accession(number) for number in old.split(" ")} == {site.clean_accession(new)}:
        return _right_as_it_is(finding)
    return {"kind": "link", "target": target, "old": old, "new": new, "reason": reason}


def _right_as_it_is(finding):
    return {"kind": "dismiss", "target": finding["finding_id"], "reason": "NO_ERROR"}


def _accession_of(dept, uid):
    return dept.studies.loc[dept.studies["study_instance_uid"] == uid, "accession_number"].iloc[0]


def id_decision(finding, feed, study, dept):
    """Whose patient ID is to be mended, from what and to what, as arguments of record_correction; {} where the finding is about no images.

    A report under another patient is mended to the exam's; else the images shown, to the ID that the feed gives after its merges.
    """
    if finding["code"].startswith("U05") and finding["message_control_id"] and feed and study:
        return {"kind": "patient_id", "target": finding["message_control_id"], "old": feed["patient_id"], "new": study["patient_id"], "reason": "REPORT_MISFILED"}
    if not study or study["study_instance_uid"] not in finding["study_instance_uid"].split():
        return {}
    right = current_id(feed.get("patient_id", ""), dept) if finding["code"].startswith("U05") else ""
    return {"kind": "patient_id", "target": study["study_instance_uid"], "old": study["patient_id"], "new": right or study["patient_id"], "reason": ID_REASONS.get(finding["code"], "WRONG_PICK")}


def plan_of(accept_as, id_as, has_candidates):
    """In a line of HTML, what the buttons would record, before anybody presses them."""
    if accept_as is None:
        accept = ": choose a candidate to see what it would record" if has_candidates else ": no candidate was found; look in the other system"
    else:
        accept = f" records “{accept_as['kind']}, {REASONS[accept_as['reason']]}”" + (f": {accept_as['old'] or '(none)'} becomes {accept_as['new']}" if "new" in accept_as else "")
    whose = "report" if id_as and id_as["reason"] == "REPORT_MISFILED" else "images"
    save = f"<br><strong>Save patient ID</strong> gives the {whose} the ID below, now {html.escape(id_as['old'] or '(none)')}." if id_as else ""
    return f"<div style='margin:4px 0;line-height:1.5'><strong>Accept match</strong>{html.escape(accept)}.{save}</div>"


class ExamCaseFile:
    """The widget that shows one exam's life: type an accession number, press Enter or Show. `case.accession_number` is what is shown."""

    def __init__(self, dept, *, site, findings=None):
        self.dept, self.site, self.findings = dept, site, findings
        self.accession_number = ""
        self.box_text = w.Text(description="Accession", placeholder="accession number", style={"description_width": "5rem"}, continuous_update=False)
        self.show = w.Button(description="Show", button_style="primary")
        self.message, self.image = w.HTML(), w.Image(format="png", layout={"max_width": "100%", "display": "none"})
        self.show.on_click(lambda _: self.open(self.box_text.value))
        self.box_text.observe(lambda change: self.open(change["new"]), "value")
        self.box = w.VBox([KeyGuard(), w.HBox([self.box_text, self.show]), self.message, self.image])
        self.box.add_class("pacs-keys")

    def open(self, accession_number):
        """Shows an exam; an unknown number leaves a sentence in `message`."""
        if not accession_number.strip():
            return
        try:
            axes = plot_exam(self.dept, accession_number.strip(), site=self.site, findings=self.findings)
        except TableError as error:
            self.message.value, self.image.layout.display = html.escape(str(error)), "none"
            return
        stream = io.BytesIO()
        axes.figure.savefig(stream, format="png", dpi=110)
        plt.close(axes.figure)
        self.accession_number, self.message.value = accession_number.strip(), f"Exam {html.escape(accession_number.strip())}: one lane for each system, gaps coloured."
        self.image.value, self.image.layout.display = stream.getvalue(), "block"

    def _repr_mimebundle_(self, **_):
        bundle = self.box._repr_mimebundle_()
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**bundle, "text/html": "<p><em>Exam case file: run the notebook and type an accession number.</em></p>", "text/plain": "Exam case file"}

