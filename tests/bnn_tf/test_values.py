"""Values and reports, and how they show themselves."""

import dataclasses

import pytest

from bnn_tf.data.folder import FolderCheck
from bnn_tf.deploy.proof import Divergence, LayerSigns, Proof
from bnn_tf.report.page import Report
from bnn_tf.subbit import LayerReport, SubBitReport
from bnn_tf.torch_import import Matching
from bnn_tf.training import TransferReport
from bnn_tf.values import InNotebooks


@dataclasses.dataclass(frozen=True)
class Checked(InNotebooks):
    lines: tuple[str, ...]

    def __str__(self):
        return "\n".join(self.lines)


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ((), "Checked()"),
        (("all well",), "Checked(all well)"),
        (("net.tflite: 9 bytes", "between", "  agrees"), "Checked(net.tflite: 9 bytes; agrees)"),
        (("x" * 500,), f"Checked({'x' * 119}…)"),
    ],
)
def test_a_report_is_one_line_in_a_prompt(lines, shown):
    assert repr(Checked(lines)) == shown


def test_reports_of_long_contents_stay_short(tmp_path):
    many = tuple(str(number) for number in range(5000))
    filters = tuple(LayerReport(name, (64, 3, 3, 2), "packed", 32, 5, 9, 8, 7, 6) for name in many)
    reports = (
        FolderCheck(tmp_path, 40, tuple((name, "is empty") for name in many)),
        Report(tmp_path / "report.html", (), ({"classes": many},)),
        TransferReport(many, many),
        SubBitReport(filters, 66_000, 64_032),
        Proof(tuple(LayerSigns(name, 64, 1, 0, 0.1) for name in many), None),
        Matching(dict.fromkeys(many, "logits/kernel"), dict.fromkeys(many, "a counter")),
    )
    for report in reports:
        assert report._repr_html_().startswith("<")
        assert repr(report).startswith(f"{type(report).__name__}(")
        assert len(repr(report)) < 300
        assert "\n" not in repr(report)
    assert reports[0] == dataclasses.replace(reports[0])
    assert "40 images can be used, 5,000 files cannot" in repr(reports[0])


def test_what_reports_say():
    signs = LayerSigns("conv", 64, 1, 0, 0.1)
    proof = Proof((signs,), None)
    assert repr(proof) == "Proof(1 layers compared; the file computes what Keras computes)"
    assert "conv: 1 of 64 signs flipped" in str(proof)
    diverged = dataclasses.replace(proof, divergence=Divergence("conv", 0.5, 2.0))
    assert repr(diverged).endswith("conv is the first to differ (50.00% of its values, by up to 2))")
