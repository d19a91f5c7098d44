"""Tables line up, and long texts go on below."""

from dlaconv.tables import pairs, table


def test_columns_are_as_wide_as_their_widest_cell():
    shown = table(["map", "n"], [["a_long_name", "1"], ["b", "1,000"]])
    assert shown.splitlines() == [
        "map           n",
        "───────────   ─────",
        "a_long_name   1",
        "b             1,000",
    ]


def test_no_rows_leave_the_headings():
    assert table(["map"], []) == "map\n───"


def test_long_texts_are_broken_at_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "44")
    shown = pairs([("rules", "one two three four five six seven eight nine"), ("", ""), ("a", "b")])
    assert shown.splitlines() == [
        "rules   one two three four five six seven",
        "        eight nine",
        "",
        "a       b",
    ]
