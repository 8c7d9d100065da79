"""The exam case file as a widget: type an accession number, see that exam's life."""

import html
import io

import ipywidgets as w
import matplotlib.pyplot as plt

from ..tables import TableError
from .casefile import plot_exam
from .keyguard import guarded, with_still


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
        self.box = guarded([w.HBox([self.box_text, self.show]), self.message, self.image])

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
        return with_still(self.box, "<p><em>Exam case file: run the notebook and type an accession number.</em></p>", "Exam case file")
