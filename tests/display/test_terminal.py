import io

from rich.console import Console

from flexres_tune.display.terminal import ForgivingStream, escape_for_console


def test_values_cannot_steer_a_terminal():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, color_system=None, emoji=False)
    console.print(escape_for_console("\x1b]0;owned\x07\x1b[2J[red]x[/red] \u202e:smile:"))
    assert output.getvalue().strip() == r"\x1b]0;owned\x07\x1b[2J[red]x[/red] \u202e:smile:"


def test_stream_whose_reader_is_gone_swallows_text():
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise OSError(5, "Input/output error")

    stream = ForgivingStream(Gone())
    assert stream.write("abc") == 3
    stream.flush()


def test_character_that_the_locale_has_not_is_replaced():
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    ForgivingStream(text).write("97 ± 1 %")
    assert raw.getvalue() == b"97 ? 1 %"
