import pytest

from flexres_tune.bench.figures import Bench, Figure
from flexres_tune.bench.note import BEGIN, END, number, write_note
from flexres_tune.errors import FlexResError

BENCH = Bench("train: tiny", (Figure("fit", "images/s", 1234.5, 99.4, 2000.0, 3),), machine="a CPU, torch 2")


def test_table_is_replaced_between_its_markers_and_nothing_else(tmp_path):
    file = tmp_path / "performance.md"
    file.write_text(f"# Title\n{BEGIN}\nold\n{END}\nrest\n")
    for _ in range(2):
        write_note(file, [BENCH], "python -m flexres_tune.bench train")
    text = file.read_text()
    assert text.startswith(f"# Title\n{BEGIN}\nMeasured by `python -m flexres_tune.bench train` on a CPU, torch 2, ")
    assert "| train: tiny | fit | 1,234 images/s | 99.4 to 2,000 | 3 |" in text
    assert text.endswith(f"{END}\nrest\n")
    assert "old" not in text


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{END}"])
def test_file_without_the_markers_is_not_changed(tmp_path, text):
    file = tmp_path / "performance.md"
    file.write_text(text)
    with pytest.raises(FlexResError, match="must have one line"):
        write_note(file, [BENCH], "command")
    assert file.read_text() == text


def test_numbers_have_three_digits():
    assert [number(value) for value in (0.01234, 3.14159, 99.44, 1234.5)] == ["0.0123", "3.14", "99.4", "1,234"]
