"""The fix bench: a queue of findings, both sides of the one shown, what to do about it, and a record of each decision."""

import hashlib
import html

import ipywidgets as w

from ..analyses.matching import rank_candidates
from ..fixes.applied import apply_corrections
from ..fixes.corrections import count_records, read_corrections, record_correction, undo_correction
from ..fixes.ledger import LedgerError, read_ledger
from ..tables import TableError
from .axes import FINDING_NAMES
from .bulk import bulk_rules, bulk_table, head_of_rule, record_all, rows_of_rule, told
from .comparison import comparison_table, sides_of
from .decisions import ACTIONS, ALONE, INPUTS, ONE_EXAM, cautions_of, decision_of, fitting_number, id_decision, meant_of, plan_of, reasons_for, redoable, series_of, studies_near, subjects_of
from .keyguard import guarded, with_still
from .queue import describe_queued, left_in_words, queue_table, rank_urgency, title_of_finding
from .thumbnails import thumbnails_html

ALL, PAGE = "all", 200
WIDE, LABEL = {"width": "100%"}, {"description_width": "6rem"}
KEYS = {"Ctrl+Enter": "pacs-record", "Alt+PageDown": "pacs-next", "Alt+PageUp": "pacs-back"}
HELP = "Tab goes on, Shift+Tab back, arrows choose, Enter or Space presses. Ctrl+Enter records, Alt+Page Down and Alt+Page Up step through the queue."


class FixBench:
    """The widget that goes through `findings`, most urgent first: compare, choose what to do and why, see what would be recorded, record, undo, redo.

    Each decision is one record of the ledger at `ledger`, made in the name of `decided_by`. `bench.findings` are those in view, ranked by `rank_urgency`,
    `bench.decisions` what stands in the ledger, `bench.planned` (of a rule `bench.bulk`, a table) what Record would record, `bench.finding` the finding shown:
    it stays the one decided on, whatever others do meanwhile. With `instances` (as `read_headers` gives them) the images of the study are shown, where they can be decoded.
    """

    def __init__(self, findings, dept, *, ledger, decided_by, site, candidates=None, instances=None):
        self.dept, self.ledger, self.decided_by, self.site, self.instances = dept, ledger, decided_by.strip(), site, instances
        self.is_named = self.decided_by.lower() not in ("", "your name")
        self.candidates = rank_candidates(findings, dept, site=site) if candidates is None else candidates
        self.all_findings = rank_urgency(findings, dept, site=site)
        self.position, self.seen, self.finding, self.planned, self.bulk, self.filling, self.asked = 0, -1, None, None, None, False, None
        self.now, self.view, self.undecided = dept, self.all_findings.head(0), self.all_findings
        self._make_widgets()
        self._run(self._load)
        if not self.is_named:
            self._say("Nothing can be recorded yet: put your own name in decided_by, and run the cell again.", bad=True)

    @property
    def decisions(self):
        return read_corrections(self.ledger)

    @property
    def findings(self):
        """The undecided findings that the chosen desk, place and kind leave in view, most urgent first."""
        left = self.undecided = self.all_findings[~self.all_findings["finding_id"].isin(self.decisions["finding_id"])]
        for column, chosen in (("owner", self.owner.value), ("place", self.place.value), ("code", self.code.value)):
            left = left if chosen == ALL else left[left[column] == chosen]
        return left.reset_index(drop=True)

    def _make_widgets(self):
        known = self.all_findings
        kinds = [(f"{code} {FINDING_NAMES[code]}", code) for code in sorted(known["code"].dropna().astype(str).unique())]
        desks, places = ([(value, value) for value in sorted({*known[name].dropna().astype(str)} - {""})] for name in ("owner", "place"))
        self.owner, self.place, self.code = (
            w.Dropdown(options=[(ALL, ALL), *options], description=name, style={"description_width": "3rem"}, layout={"width": "15rem"})
            for name, options in (("Desk", desks), ("Place", places), ("Kind", kinds)))
        self.queue = w.Select(rows=6, description="Queue", style=LABEL, layout=WIDE)
        self.choice = w.Select(rows=3, description="Candidates", style=LABEL, layout=WIDE)
        self.action = w.Select(rows=len(ACTIONS), description="What to do", style=LABEL, layout={"width": "20rem", "flex": "none"}, options=[(words, name) for name, words in ACTIONS.items()])
        self.inputs = {
            "subject": w.Dropdown(description="About"), "rule": w.Dropdown(description="Rule"),
            "series": w.SelectMultiple(rows=4, description="Series"), "studies": w.SelectMultiple(rows=4, description="Studies"),
            "patient_id": w.Text(description="Patient ID"), "accession": w.Text(description="Accession"), "count": w.Text(description="How many", placeholder="type the number of findings"),
        }
        self.reason, self.note = w.Dropdown(description="Reason"), w.Text(description="Note", placeholder="why, in a few words; OTHER needs it")
        for widget in (*self.inputs.values(), self.reason, self.note):
            widget.style, widget.layout.width = LABEL, "auto"
            if isinstance(widget, w.Text):
                widget.continuous_update = False
        self.back, self.next, self.record, self.undo, self.redo = (w.Button(description=name, layout={"width": "7rem"}) for name in ("Previous", "Next", "Record", "Undo last", "Redo"))
        self.record.style.button_color, self.record.style.text_color = "#1b5e20", "white"
        for button, name, action in ((self.back, "back", lambda: self.step(-1)), (self.next, "next", lambda: self.step(1)), (self.record, "record", self.record_decision),
                                     (self.undo, "undo", self.undo_last), (self.redo, "redo", self.redo_last)):
            button.add_class(f"pacs-{name}")
            button.on_click(lambda _, action=action: action())
        watch = {self._restart: (self.owner, self.place, self.code), self._open: (self.queue,), self._fill_choice: (self.choice,), self._fill_subject: (self.inputs["subject"],),
                 self._fill_action: (self.action,), self._fill_rule: (self.inputs["rule"],), self._plan: (*list(self.inputs.values())[2:], self.reason, self.note)}
        for fill, widgets in watch.items():
            for widget in widgets:
                widget.observe(lambda _, fill=fill: self.filling or self._run(fill), "value")
        self.progress, self.left = w.Label(layout={"flex": "none"}), w.HTML(layout=WIDE)
        self.title, self.plan, self.message, self.sides, self.pictures = (w.HTML(layout=x) for x in (WIDE, WIDE, WIDE, {"flex": "none"}, {"flex": "1 1 11rem"}))
        form = w.VBox([*self.inputs.values(), self.reason, self.note], layout={"flex": "1 1 20rem", "min_width": "0"})
        wrap = {"flex_flow": "row wrap"}
        rows = [w.HBox([self.owner, self.place, self.code], layout=wrap), self.queue, w.HBox([self.back, self.next, self.progress]), self.left, self.title,
                w.HBox([self.sides, self.pictures], layout=wrap), self.choice, w.HBox([self.action, form], layout=wrap), self.plan,
                w.HBox([self.record, self.undo, self.redo]), self.message, w.HTML(f"<small>{HELP}</small>")]
        self.box = guarded(rows, keys=KEYS, border="1px solid #c8c8cc", padding="12px", width="100%")

    def _run(self, fill):
        """Fills widgets without their changes calling for more; a ledger that is broken or cannot be read is told, and nothing can be decided."""
        self.filling = True
        try:
            fill()
        except LedgerError as error:
            self.finding, self.view, self.queue.options, self.progress.value, self.left.value = None, self.all_findings.head(0), [], "the ledger cannot be used", ""
            self._fill_finding()
            self.title.value = ""
            self.back.disabled = self.next.disabled = self.undo.disabled = self.redo.disabled = True
            self._say(f"{error}. Nothing can be decided until the ledger is whole: restore it, and run the cell again.", bad=True)
        finally:
            self.filling = False

    # What is shown

    def _restart(self):
        self.position, self.finding, self.message.value, self.note.value = 0, None, "", ""
        self._load()

    def _open(self):
        self.finding, self.message.value, self.note.value = {"finding_id": self.queue.value}, "", ""
        self._load()

    def _load(self, by=0):
        seen = count_records(self.ledger)       # first: what is written after this was not seen
        if seen != self.seen:
            is_more = seen > self.seen >= 0 and not any(record["op"] == "undo" for record in read_ledger(self.ledger)[self.seen:])
            self.now = apply_corrections(self.now, self.ledger, after=self.seen) if is_more else apply_corrections(self.dept, self.ledger)
            self.seen = seen
        self.view, decisions = self.findings, self.decisions
        view = self.view
        ids, n, last = view["finding_id"].tolist(), len(view), self.finding and self.finding["finding_id"]
        self.position = max(0, min(ids.index(last) + by if last in ids else self.position + min(by, 0), n - 1))
        self.finding = view.iloc[self.position].to_dict() if n else None
        page = self.position // PAGE * PAGE
        self.queue.options = [(describe_queued(row, page + i, self.site), row["finding_id"]) for i, row in enumerate(view.iloc[page:page + PAGE].to_dict("records"), 1)]
        self.queue.value = self.finding and self.finding["finding_id"]
        self.progress.value = f"{self.position + 1} of {n} open; {len(decisions)} decided" if n else f"none open; {len(decisions)} decided"
        self.left.value = html.escape(left_in_words(view))
        self.undo.disabled, self.redo.disabled = not (decisions["user"] == self.decided_by).any(), not redoable(self.ledger, self.decided_by)
        self.back.disabled, self.next.disabled = self.position == 0, self.position >= n - 1
        self._fill_finding()

    def _fill_finding(self):
        finding = self.finding
        self.title.value = title_of_finding(finding) if finding else "<p><strong>Nothing left to decide here.</strong> Choose another desk, place or kind, or apply the corrections.</p>"
        mine = self.candidates[self.candidates["finding_id"] == finding["finding_id"]] if finding else self.candidates.head(0)
        self.choice.options = [(f"{row['score']:.0%}   {row['candidate_accession_number'] or 'no accession'}   {row['reasons']}", i) for i, row in mine.iterrows()]
        self.choice.index = None                # nothing is chosen until a person chooses
        for widget in (self.choice, self.action, self.reason, self.note, *self.inputs.values()):
            widget.disabled = finding is None
        self.action.value = "accept" if len(mine) or finding and finding["code"] in (*ONE_EXAM, "U07", "U09") else "reject"
        self._fill_choice()

    def _chosen(self):
        return self.candidates.loc[self.choice.value].to_dict() if self.choice.value is not None else {}

    def _fill_choice(self):
        subject, finding, chosen = self.inputs["subject"], self.finding, self._chosen()
        subject.options = subjects_of(finding, chosen, self.now) if finding else []
        ids = [value for _, value in subject.options]
        subject.value = meant_of(finding, chosen, ids, self.now, self.site) if ids else None
        self._fill_subject()

    def _fill_subject(self):
        finding, chosen, (subject, _, exam) = self.finding, self._chosen(), (self.inputs["subject"].value or "").partition(ALONE)
        self.inputs["studies"].options = studies_near(finding, chosen, subject, self.now) if finding else []
        if finding is None:
            self.sides.value = self.pictures.value = ""
        else:
            uid = subject if (self.now.studies["study_instance_uid"] == subject).any() else chosen.get("candidate_study_instance_uid", "").split(" ")[0]
            number = fitting_number(finding, self.now, self.site) or chosen.get("candidate_accession_number", "")
            feed, study = sides_of(finding | {"accession_number": exam or finding["accession_number"]}, self.now, self.site, number, uid)
            self.sides.value = comparison_table(feed, study)
            proposed = id_decision(finding, feed, study, self.now)
            self.inputs["patient_id"].value = proposed["new"] if proposed.get("target") == subject else ""
            shown = study.get("study_instance_uid", "")
            self.pictures.value = thumbnails_html(self.instances, shown) if self.instances is not None and shown else ""
        self._fill_action()

    def _fill_action(self):
        action, asks = self.action.value, INPUTS.get(self.action.value, ())
        for name, widget in self.inputs.items():
            widget.layout.display = "flex" if name in asks else "none"
        self.inputs["accession"].value = self._chosen().get("candidate_accession_number", "") if action == "link" else ""
        self.inputs["series"].options = series_of(self.inputs["subject"].value or "", self.now, self.site if action == "split" else None)
        if action == "bulk" and self.finding:
            self.rules = bulk_rules(self.findings, self.candidates, self.now, self.site, lambda n, of: self._say(f"Looking for what findings share: {n:,} of {of:,}."))
            counts = self.rules["rule"].value_counts(sort=False)
            self.inputs["rule"].options = [("choose a rule", ""), *((f"{rule} ({n})", rule) for rule, n in counts.items())]
            self.inputs["rule"].value = ""
            self._fill_rule()
        self._plan()

    def _fill_reasons(self):
        """The likely reason stands first, but a person takes it; what was taken stays while finding, action and rule do."""
        action, finding, planned = self.action.value, self.finding, self.planned
        asked = (finding and finding["finding_id"], action, action == "bulk" and self.inputs["rule"].value)
        kept, self.asked = self.reason.value if asked == self.asked else "", asked
        if action == "bulk" and finding:
            action, finding, planned = "accept", *head_of_rule(self.bulk, self.all_findings)
        options = reasons_for(action, finding, planned) if finding else []
        likely = options[0][1] if options else ""
        choices = options if len(options) == 1 else [(f"choose; likely: {likely}" if likely else "choose" if options else "", ""), *options[not likely:]]
        if choices != list(self.reason.options) or kept != self.reason.value:
            self.reason.options = choices
            self.reason.value = options[0][1] if len(options) == 1 else kept or ""

    def _plan(self):
        self.planned, missing = None, ""
        if self.finding and self.action.value != "bulk":
            try:
                given = {name: widget.value for name, widget in self.inputs.items()}
                self.planned = decision_of(self.action.value, self.finding, self._chosen(), given, self.now, self.site)
            except TableError as error:
                missing = f"<div style='line-height:1.5'>Nothing to record yet. {html.escape(str(error))}</div>"
        self._fill_reasons()
        if self.finding and self.action.value == "bulk":
            return self._plan_bulk()
        against = cautions_of(self.planned, self.now, self.site, self.instances, self.undecided) if self.planned else []
        self.plan.value = plan_of(self.planned, against, self.reason.value, self.now) if self.planned else missing
        self.record.disabled = not (self.planned and self._is_reasoned())

    def _is_reasoned(self):
        return self.is_named and bool(self.reason.value) and (self.reason.value != "OTHER" or bool(self.note.value.strip()))

    def _fill_rule(self):
        self.bulk, self.n_left_out = rows_of_rule(self.rules, self.inputs["rule"].value, self.now, self.site, self.instances, self.undecided,
                                                     lambda n, of: self._say(f"Looking for what stands against them: {n:,} of {of:,}."))
        self.message.value = ""
        self.inputs["count"].value = ""
        self._plan()

    def _plan_bulk(self):
        n, rule = len(self.bulk), html.escape(self.inputs["rule"].value)
        words = f"{n} findings in view follow the rule “{rule}”. Look at each line, confirm the reason, and type {n}." if n else "Choose a rule: what several findings in view share."
        words += f" Left out are {self.n_left_out} that something stands against: decide those one by one." if self.n_left_out else ""
        self.plan.value = f"<div style='line-height:1.5'>{words}</div>" + (bulk_table(self.bulk) if n else "")
        self.record.disabled = not (n and self._is_reasoned() and self.inputs["count"].value.strip() == str(n))

    # The decisions

    def step(self, by):
        self.message.value, self.note.value = "", ""
        self._run(lambda: self._load(by))

    def record_decision(self):
        if self.record.disabled:
            return self._say("Not recorded: choose what to do, and confirm the reason.", bad=True)
        return self._record_bulk() if self.action.value == "bulk" else self._try(self._record_planned, "Saved.")

    def _record_planned(self):
        finding, shown = self.finding, hashlib.sha256((self.finding["evidence"] + self.sides.value + self.plan.value).encode()).hexdigest()
        return record_correction(self.ledger, **self.planned, reason=self.reason.value, text=self.note.value, evidence=f"{finding['evidence']} [shown {shown[:16]}]",
                                 decided_by=self.decided_by, finding_id=finding["finding_id"], expect=self.seen)

    def _record_bulk(self):
        n = len(self.bulk)
        n_made, failed = record_all(self.ledger, self.bulk, reason=self.reason.value, text=self.note.value, decided_by=self.decided_by, expect=self.seen,
                                    tell=lambda n, of: self._say(f"Recorded {n:,} of {of:,}."))
        self.note.value = ""
        self._run(self._load)
        self._focus()
        return self._say(f"Saved {n_made} of {n}, a record each." + "".join(f" {f}." for f in failed), bad=bool(failed))

    def undo_last(self):
        return self._try(lambda: self._undo(self.decisions.loc[self.decisions["user"] == self.decided_by, "id"].tolist(), "undo"), "Undone.")

    def redo_last(self):
        return self._try(lambda: self._undo(redoable(self.ledger, self.decided_by), "redo"), "Done again.")

    def _undo(self, ids, word):
        if not ids:
            raise TableError(f"Nothing of yours to {word}.")
        return undo_correction(self.ledger, ids[-1], decided_by=self.decided_by, text=self.note.value)

    def _try(self, action, words):
        try:
            record = action()
        except (LedgerError, TableError) as error:
            if getattr(error, "code", "") in ("CONFLICT", "LOG_NOT_SYNCED"):
                self._run(self._load)
            return self._say(told(error), bad=True)
        self.note.value = ""
        self.finding = record if record["op"] == "undo" else self.finding
        self._run(self._load)
        self._focus()
        return self._say(f"{words} Record {record['seq']}: {record['kind']}, {record['finding_id'] or record['target']}.")

    def _focus(self):
        """A pressed button that is disabled now would leave the keyboard nowhere."""
        (self.choice if self.choice.options else self.queue if self.finding else self.undo).focus()

    def _say(self, words, bad=False):
        self.message.value = f"<span role='status' style='{'color:#a40000;font-weight:600' if bad else 'color:#1a5e20'}'>{html.escape(words)}</span>"

    def _repr_mimebundle_(self, **_):
        still = (f"<p><em>Fix bench, {html.escape(self.progress.value)}. Run the notebook to use it.</em> {self.left.value}</p>{queue_table(self.view, self.site)}"
                 f"{self.title.value}{self.sides.value}{self.message.value}")
        return with_still(self.box, still, f"Fix bench: {self.progress.value}")
