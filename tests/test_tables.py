"""What users bring, as they bring it."""

import csv
import gzip
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptlab.compare.data.tables import Table, examples_from, read_table
from promptlab.errors import DataError

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "labelled"
real_data = pytest.mark.skipif(not LABELLED.is_dir(), reason=f"the labelled sets are not at {LABELLED}")


@pytest.fixture
def file(tmp_path):
    """Writes a file, as text or bytes, and gives its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def column(table: Table, name: str) -> list[str | None]:
    return [row[name] for row in table.rows]


# ---- CSV and TSV


def test_a_csv_gives_its_columns_rows_lines_and_hash(file):
    path = file("notes.csv", 'text,label\n"one, two",a\nthree,b\n')
    table = read_table(path)
    assert table.columns == ("text", "label")
    assert table.rows == [{"text": "one, two", "label": "a"}, {"text": "three", "label": "b"}]
    assert list(table.lines) == [2, 3]
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (table.format, table.encoding, table.warnings) == ("csv", "utf-8", ())


def test_a_quoted_newline_stays_in_its_cell_and_lines_still_count_from_the_file(file):
    table = read_table(file("a.csv", 'text,label\r\n"line one\nline two",a\r\nnext,b\r\n'))
    assert column(table, "text") == ["line one\nline two", "next"]
    assert list(table.lines) == [2, 4]


def test_semicolons_and_tabs_are_found_out_where_the_header_has_no_comma(file):
    assert read_table(file("a.csv", "text;label\nyes, sir;a\nno;b\n")).rows[0] == {"text": "yes, sir", "label": "a"}
    assert read_table(file("b.csv", "text\tlabel\nyes; sir\ta\n")).rows[0] == {"text": "yes; sir", "label": "a"}
    assert read_table(file("c.csv", '"text, long";label\nx,y;a\n')).columns == ("text, long", "label")


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("Patient;Motif, texte libre;Triage\n1;douleur;urgent\n2;vaccin, rappel;routine\n", 3),
        ("Patient;Motif;Triage;Age, ans\n1;douleur, hier;urgent;4,5\n2;vaccin, rappel, hier;routine;5,0\n", 4),
        ("Patient;Motif, texte libre;Triage\n", 3),
        ("text\tlabel, by hand\none, two, three\ta\nfour\tb\n", 2),
        ('text,"label\n(by hand)",urgency (1; 2; 3; 4)\n"one;\ntwo; three",a,1\n"four;\nfive",b,2\n', 3),
        ("text,urgency (1; 2; 3)\none,1\ntwo,2\n", 2),
    ],
)
def test_the_separator_is_the_one_that_gives_the_rows_the_width_of_the_header(file, content, columns):
    more = "" if content.count("\n") > 1 else content.replace("Motif", "vaccin").replace(",", "")
    table = read_table(file("a.csv", content + more))
    assert len(table.columns) == columns
    assert not [warning for warning in table.warnings if "cells" in warning]


def test_where_the_separator_may_be_another_a_missing_column_says_which_was_taken(file):
    table = read_table(file("a.csv", "note, libre;label\nfever, 25 days;a\nrash, 3 days;b\n"))  # either fits
    said = r"""no text column "note, libre"\. .* separated by ',': if it is ';', put a line sep=; before the first\.$"""
    with pytest.raises(DataError, match=said):
        examples_from(table, "note, libre", "label")
    named = file("b.csv", "sep=;\n" + table.path.read_text())
    assert [e.target for e in examples_from(read_table(named), "note, libre", "label").examples] == ["a", "b"]


@pytest.mark.parametrize("sep", list(";,\t|"))
def test_excels_first_line_names_the_separator_and_is_no_row(file, sep):
    table = read_table(file("a.csv", f'sep={sep}\r\ntext{sep}label\r\n"one{sep} two"{sep}a\r\nthree{sep}b\r\n'))
    assert table.columns == ("text", "label")
    assert (column(table, "text"), table.lines[0], table.warnings) == ([f"one{sep} two", "three"], 3, ())


def test_a_cell_of_ten_megabytes_is_read_and_the_csv_module_left_as_it_was(file):
    before = csv.field_size_limit(1234)
    try:
        table = read_table(file("big.csv", "text,label\n" + "x" * 10_000_000 + ",a\nshort,b\n"))
    finally:
        left = csv.field_size_limit(before)
    assert [len(text or "") for text in column(table, "text")] == [10_000_000, 5]
    assert left == 1234


def test_rows_that_are_too_short_or_too_long_are_counted_with_their_first_line(file):
    table = read_table(file("a.csv", "id,text,label\n1,one,a\n2,two\n3,a, comma,b\n4,four,b,,\n5\n"))
    assert column(table, "id") == ["1", "2", "4", "5"]
    assert column(table, "label") == ["a", None, "b", None]
    assert any(w.startswith("1 row(s) with more cells") and "line 4" in w for w in table.warnings)
    assert any(w.startswith("2 row(s) with fewer cells") and "line 3" in w for w in table.warnings)


def test_a_table_most_of_whose_rows_are_too_long_is_refused(file):
    with pytest.raises(DataError, match=r"2 row\(s\) have more cells than the 2 .*line 2.*quotes"):
        read_table(file("a.csv", "text,label\none, two, three,a\nfour, five,b\nsix,b\n"))


def test_a_quote_that_never_closes_is_an_error_that_names_its_line(file):
    with pytest.raises(DataError, match="line 3 is never closed"):
        read_table(file("a.csv", 'text,label\none,a\n"two,b\nthree,b\n'))


def test_quotes_in_a_tsv_are_literal_where_they_do_not_close_and_quotes_where_they_do(file):
    literal = read_table(file("glue.tsv", 'text\tlabel\n"Oh\ta\nno" she said\tb\n'))
    assert column(literal, "text") == ['"Oh', 'no" she said']
    quoted = read_table(file("excel.tsv", 'text\tlabel\n"two\nlines"\ta\n"say ""hi"""\tb\n'))
    assert column(quoted, "text") == ["two\nlines", 'say "hi"']


def test_columns_without_a_name_or_with_one_that_repeats_get_one_of_their_own(file):
    table = read_table(file("a.csv", ", text ,label,label\n0,one,a,b\n"))
    assert table.columns == ("1", "text", "label", "label.2")
    assert any("1 column name(s) repeat" in w for w in table.warnings)


def test_a_header_that_occurs_again_among_the_rows_is_left_out(file):
    table = read_table(file("joined.csv", "text,label\none,a\ntext,label\ntwo,b\n"))
    assert column(table, "text") == ["one", "two"]
    assert [w for w in table.warnings if "repeat the header" in w and "line 3" in w]
    assert len(table.warnings) == 1


@pytest.mark.parametrize("first", ["1,a text", "a text,b", "x" * 90 + ",label"])
def test_a_first_row_that_looks_like_data_is_said(file, first):
    table = read_table(file("a.csv", f"{first}\nanother,b\nthird,c\n"))
    assert any("looks like data" in w for w in table.warnings)


def test_a_file_without_a_header_has_columns_by_number(file):
    table = read_table(file("a.csv", "one,a\ntwo,b\n"), header=False)
    assert table.columns == ("1", "2")
    assert column(table, "1") == ["one", "two"]
    assert table.warnings == ()


cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\ufeff"), max_size=8)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
def test_whatever_the_csv_module_writes_is_read_back(tmp_path, rows):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows([("first name", "second name", "third name"), *rows])
    assert [tuple(row.values()) for row in read_table(path).rows] == rows


# ---- JSON


@pytest.mark.parametrize(
    "data",
    [
        [{"text": "one", "label": 1}, {"text": "two", "label": None}],
        {"version": "1.0", "data": [{"text": "one", "label": 1}, {"text": "two", "label": None}]},
    ],
)
def test_json_may_be_a_list_of_objects_or_hold_one(file, data):
    assert read_table(file("a.json", json.dumps(data))).rows == [
        {"text": "one", "label": "1"},
        {"text": "two", "label": None},
    ]


def test_json_may_be_objects_by_id_whose_lists_of_texts_become_lines(file):
    data = {"17": {"q": "why?", "contexts": ["a", "b"], "ok": True}, "18": {"q": "how?", "more": {"n": [1]}}}
    table = read_table(file("a.json", json.dumps(data)))
    assert table.columns == ("id", "q", "contexts", "ok", "more")
    assert table.rows[0] == {"id": "17", "q": "why?", "contexts": "a\nb", "ok": "true", "more": None}
    assert table.rows[1]["more"] == '{"n": [1]}'
    assert table.where(1) == "item 2"


def test_jsonl_rows_may_have_different_keys_blank_lines_and_missing_numbers(file):
    table = read_table(file("a.jsonl", '{"text": "one"}\n\n{"text": "two", "label": NaN}\n{"label": 1.50}\n'))
    assert table.rows == [
        {"text": "one", "label": None},
        {"text": "two", "label": None},
        {"text": None, "label": "1.5"},
    ]
    assert list(table.lines) == [1, 3, 4]


def test_json_lines_under_the_name_json_are_read(file):
    assert column(read_table(file("a.json", '{"a": "x"}\n{"a": "y"}\n')), "a") == ["x", "y"]


@pytest.mark.parametrize("bad", ['{"a": 1', "[1]", '"text"', "9" * 5000, "[" * 100_000])
def test_a_malformed_jsonl_line_is_an_error_that_names_it(file, bad):
    with pytest.raises(DataError, match=r"^a\.jsonl .* at line 2[.:][^\n]*$"):
        read_table(file("a.jsonl", f'{{"a": 0}}\n{bad}\n{{"a": 2}}\n'))


@pytest.mark.parametrize("bad", ['[{"a": 1},', "[1, 2]", '{"a": {"b": 1}, "c": 2}', "3", "[" * 100_000])
def test_json_that_is_malformed_or_not_made_of_objects_is_refused(file, bad):
    with pytest.raises(DataError, match=r"^a\.json [^\n]+$"):
        read_table(file("a.json", bad))


# ---- plain text


def test_sections_group_the_lines_under_their_number(file):
    table = read_table(file("a.txt", "###11\naim\tOne .\nresult\tTwo\tthree .\n\nother\tAlone .\n###12\naim\tFour .\n"))
    assert table.format == "sections"
    assert column(table, "label") == ["aim", "result", "other", "aim"]
    assert column(table, "text") == ["One .", "Two\tthree .", "Alone .", "Four ."]
    assert column(table, "group") == ["11", "11", None, "12"]
    assert list(table.lines) == [2, 3, 5, 7]


def test_sections_say_how_many_lines_have_no_tab_and_are_refused_where_most_have_none(file):
    table = read_table(file("a.txt", "###1\naim\tOne\naim\tTwo\nstray line\n"))
    assert table.warnings == ("1 line(s) without a tab left out (first: line 4).",)
    with pytest.raises(DataError, match=r"2 line\(s\) have no tab .*line 2.*csv"):
        read_table(file("b.txt", "###1\nno tab\nnone\naim\tOne\n"))


def test_label_first_lines_with_colons_have_coarse_and_fine_labels_too(file):
    table = read_table(file("TREC.train", "NUM:dist How far ?\nLOC:city  Where ?\n"))
    assert table.columns == ("label", "text", "coarse", "fine")
    assert table.rows[0] == {"label": "NUM:dist", "text": "How far ?", "coarse": "NUM", "fine": "dist"}
    assert column(read_table(file("sst.all", "0 bad: film\n1 good film\n")), "text") == ["bad: film", "good film"]


def test_a_format_that_is_named_goes_before_the_extension(file):
    path = file("a.txt", "text,label\none,a\n")
    assert read_table(path, "csv").columns == ("text", "label")
    with pytest.raises(DataError, match=r'No format "xml"\. Formats: csv, tsv, json'):
        read_table(path, "xml")


def test_a_text_file_whose_first_line_names_the_wanted_columns_is_a_table(file):
    from_excel = 'label\ttext\tclinic\r\nresp\thas "a cough" señora\tnorth\r\nskin\titch\tsouth\r\n'.encode("utf-16")
    table = read_table(file("a.txt", from_excel))
    assert (table.format, table.columns) == ("tsv", ("label", "text", "clinic"))
    assert column(table, "label") == ["resp", "skin"]
    asked = read_table(file("b.txt", "note;urgency\nan itch;low\n"), wanted=("note", "urgency"))
    assert asked.rows == [{"note": "an itch", "urgency": "low"}]
    assert read_table(file("c.txt", "aim\tlabel and text\naim\tTwo\n")).format == "sections"
    assert read_table(file("d.txt", "###label\ttext\naim\tTwo\n")).format == "sections"


# ---- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_files_are_read_with_or_without_a_mark(file, encoding):
    table = read_table(file("a.csv", "text,label\nnaïve Ω 日本,a\n".encode(encoding)))
    assert table.columns[0] == "text"
    assert column(table, "text") == ["naïve Ω 日本"]
    assert table.warnings == ()
    assert table.encoding == encoding


@pytest.mark.parametrize(("text", "encoding"), [("café … “so”", "cp1252"), ("caf\xe9 \x81", "latin-1")])
def test_western_files_are_read_with_a_warning_that_names_encoding_and_line(file, text, encoding):
    table = read_table(file("a.csv", f"text,label\nplain,b\n{text},a\n".encode(encoding)))
    assert column(table, "text") == ["plain", text]
    assert table.encoding == encoding
    assert encoding in table.warnings[0]
    assert "line 3" in table.warnings[0]


def test_one_damaged_byte_does_not_spoil_the_rest_of_a_utf8_file(file):
    table = read_table(file("a.csv", "text,label\nnaïve café,a\nfaç".encode() + b"\xe9,b\n"))
    assert column(table, "text") == ["naïve café", "faç\ufffd"]
    assert "line 3" in table.warnings[0]


def test_a_utf8_character_cut_off_at_the_end_of_the_file_is_noticed(file):
    assert "line 3" in read_table(file("a.csv", b"text,label\nx,a\ny,\xc3")).warnings[0]


def test_only_a_line_feed_ends_a_line(file):
    table = read_table(file("a.txt", "0 one\u0085two\r\n1 three\u2028four\x0bfive\rsix\n"))
    assert column(table, "text") == ["one\u0085two", "three\u2028four\x0bfive\rsix"]


# ---- files that are none


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.txt"])
@pytest.mark.parametrize("content", ["", " \n\n", "\ufeff"])
def test_an_empty_file_is_refused_in_one_line(file, name, content):
    with pytest.raises(DataError, match=r"^a\.\w+ [^\n]+$"):
        read_table(file(name, content))


def test_a_header_without_rows_is_refused(file):
    with pytest.raises(DataError, match="no rows of data"):
        read_table(file("a.csv", "text,label\n"))


def test_a_missing_file_a_directory_and_a_workbook_are_refused(file, tmp_path):
    with pytest.raises(DataError, match="No file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a directory"):
        read_table(tmp_path)
    with pytest.raises(DataError, match=r"not text .* Save it as CSV"):
        read_table(file("a.xlsx", b"PK\x03\x04\x14\x00\x06\x00binary"))
    packed = gzip.compress(b"text,label\n" + bytes(range(256)) * 9)
    for damaged in (packed[:-40], packed[:30] + b"!" * 40 + packed[70:], b"plain"):
        with pytest.raises(DataError, match=r"cannot be read: \S.*\.$"):
            read_table(file("c.csv.gz", damaged))
    with pytest.raises(DataError, match=r"begins as utf-8 .* Save it as UTF-8"):
        read_table(file("b.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,a\n"))


# ---- examples


def labelled(file, content: str, **kinds):
    return examples_from(read_table(file("notes.csv", content)), **({"text": "text", "label": "label"} | kinds))


def test_examples_carry_stripped_text_and_label_an_id_by_row_and_a_group(file):
    found = labelled(file, "text,label,pmid\n one , 1 ,7\ntwo,0,8\n", group="pmid")
    assert [(e.input, e.target, e.id, e.group) for e in found.examples] == [
        ("one", "1", "notes:1", "7"),
        ("two", "0", "notes:2", "8"),
    ]
    assert found.warnings == ()


@pytest.mark.parametrize("text", ["claim+evidence", "claim + evidence", ("claim", "evidence")])
def test_texts_of_several_columns_are_joined_by_a_newline(file, text):
    found = labelled(file, "evidence,claim,label\nE1,C1,a\n,C2,b\n", text=text)
    assert [e.input for e in found.examples] == ["C1\nE1", "C2"]


def test_a_plus_in_the_name_of_a_column_is_part_of_it(file):
    assert labelled(file, "a+b,label\none,x\ntwo,y\n", text="a+b").examples[0].input == "one"


def test_rows_without_text_label_or_group_are_counted_with_their_first_line(file):
    found = labelled(file, "text,label,g\none,a,1\n ,a,1\ntwo,,1\nthree,,1\nfour,b,\n", group="g")
    assert [e.id for e in found.examples] == ["notes:1", "notes:5"]
    assert [e.group for e in found.examples] == ["1", None]
    assert found.warnings == (
        "1 row(s) with no text left out (first: line 3).",
        "2 row(s) with no label left out (first: line 4).",
        '1 row(s) with nothing in "g", each taken as a group of its own (first: line 6).',
    )


def test_a_row_that_lacks_one_of_two_columns_is_in_no_subgroup_of_their_crossing(file):
    table = read_table(file("a.csv", "text,label,sex,clinic\none,a,M,A\ntwo,b,M,\nthree,b,,M\nfour,a,F,A\n"))
    found = examples_from(table, "text", "label", subgroup="sex+clinic")
    assert [example.subgroup for example in found.examples] == ["M, A", None, None, "F, A"]
    assert found.warnings == (
        '2 row(s) with nothing in "sex" or "clinic", which count in no subgroup (first: line 3).',
    )


def test_a_missing_column_is_an_error_that_names_those_there_are_and_the_nearest(file):
    with pytest.raises(
        DataError, match=r'no label column "lable"\. Its columns: text, label\. Did you mean "label"\?$'
    ):
        labelled(file, "text,label\none,a\ntwo,b\n", label="lable")
    with pytest.raises(DataError, match=r'no text column "TEXT"\..*Did you mean "text"\?$'):
        labelled(file, "text,label\none,a\ntwo,b\n", text="TEXT")
    with pytest.raises(DataError, match=r'no group column "patient"\. Its columns: text, label\.$'):
        labelled(file, "text,label\none,a\ntwo,b\n", group="patient")


def test_a_missing_column_says_how_the_file_was_read_where_that_is_in_doubt(file):
    with pytest.raises(DataError, match=r"first row looks like data.*--no-header"):
        labelled(file, "it is red,a\nit is blue,b\nit is green,a\n")
    with pytest.raises(DataError, match=r"read as label-first: name its format \(--format\)"):
        examples_from(read_table(file("notes.txt", "note,label\none,a\ntwo,b\n")), "note", "label")


def test_a_column_cannot_be_text_and_label(file):
    with pytest.raises(DataError, match='"label" is asked for as text and as label'):
        labelled(file, "text,label\none,a\ntwo,b\n", text="text+label")


def test_one_class_or_one_row_is_refused_for_training_and_allowed_for_testing(file):
    with pytest.raises(DataError, match='the same label, "a"'):
        labelled(file, "text,label\none,a\ntwo,a\n")
    with pytest.raises(DataError, match=r"1 row\(s\) with both text and label"):
        labelled(file, "text,label\none,a\ntwo,\n")
    assert len(labelled(file, "text,label\none,a\ntwo,\n", for_test=True).examples) == 1
    with pytest.raises(DataError, match=r"0 row\(s\) with both"):
        labelled(file, "text,label\none,\n", for_test=True)


def test_a_label_column_that_is_free_text_is_refused_and_better_ones_named(file):
    rows = "".join(f"q{i},answer {i},{i % 3}\n" for i in range(50))
    with pytest.raises(DataError, match=r'"label" .* 50 different values in 50 rows.*few different values: kind\.$'):
        labelled(file, "text,label,kind\n" + rows)
    assert len(labelled(file, "text,label,kind\n" + rows, for_test=True).examples) == 50
    upside_down = "".join(f"question {i}\tkind\n" for i in range(50))
    with pytest.raises(DataError, match=r"50 different values.*read as sections: name its format \(--format\)"):
        examples_from(read_table(file("a.txt", upside_down)), "text", "label")


def test_files_that_differ_in_an_unknown_extension_give_different_ids(file):
    lines = "0 one\n1 two\n"
    ids = [
        examples_from(read_table(file(name, lines)), "text", "label").examples[0].id for name in ("T.train", "T.test")
    ]
    assert ids == ["T.train:1", "T.test:1"]
    assert labelled(file, "text,label\none,a\ntwo,b\n", name="mine").examples[0].id == "mine:1"


# ---- the real files


@real_data
@pytest.mark.parametrize(
    ("path", "rows", "columns"),
    [
        ("nicta_piboso/train_clean.txt", 6979, ("label", "text", "group")),
        ("nicta_piboso/dev_clean.txt", 801, ("label", "text", "group")),
        ("nicta_piboso/test_clean.txt", 1991, ("label", "text", "group")),
        ("health_advice/annotations_structured_abstract.csv", 5982, ("label", "pmid", "sentence", "design")),
        ("healthver/healthver_dev.csv", 1917, ("id", "evidence", "claim", "label", "topic_ip", "question")),
        ("caves_vaccine_concerns/val.csv", 987, ("ID", "text", "labels")),
        ("symptom2disease/Symptom2Disease.csv", 1200, ("index", "label", "text")),
        ("trec/TREC.train", 5452, ("label", "text", "coarse", "fine")),
        ("sst2/stsa.binary.train", 6920, ("label", "text")),
        ("subj/subj.all", 10_000, ("label", "text")),
        ("banking77/train.csv", 10_003, ("text", "category")),
        ("gsm8k/test_first660.jsonl", 660, ("question", "answer")),
        ("svamp/SVAMP.json", 1000, ("ID", "Body", "Question", "Equation", "Answer", "Type")),
    ],
)
def test_the_real_files_have_the_rows_their_authors_counted(path, rows, columns):
    table = read_table(LABELLED / path)
    assert (len(table.rows), table.columns) == (rows, columns)


@real_data
def test_pubmedqa_has_a_thousand_items_by_id_with_an_abstract_each():
    table = read_table(LABELLED / "pubmedqa/ori_pqal.json")
    found = examples_from(table, "QUESTION+CONTEXTS", "final_decision", "id")
    assert len(found.examples) == 1000
    assert found.examples[0].group == "21645374"
    assert {e.target for e in found.examples} == {"yes", "no", "maybe"}


@real_data
def test_medical_question_pairs_has_no_header_and_says_so():
    path = LABELLED / "medical_question_pairs/mqp.csv"
    assert any("looks like data" in w for w in read_table(path).warnings)
    assert len(examples_from(read_table(path, header=False), "2+3", "4", "2").examples) == 3048


@real_data
def test_nicta_abstracts_are_its_groups():
    assert len({row["group"] for row in read_table(LABELLED / "nicta_piboso/train_clean.txt").rows}) == 720


@real_data
def test_a_worked_answer_is_not_taken_for_a_label():
    with pytest.raises(DataError, match="2,000 different values"):
        examples_from(read_table(LABELLED / "gsm8k/train_first2000.jsonl"), "question", "answer")


def test_half_a_surrogate_pair_is_mended_and_counted(tmp_path):
    path = tmp_path / "notes.jsonl"
    escaped = (("caf\\ud83d", "a"), ("tea \\ud83d\\ude00", "b"), ("x", "c\\udc00"))
    path.write_text("".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in escaped))
    read = examples_from(read_table(path), "text", "label")
    assert [e.input for e in read.examples] == ["caf\ufffd", "tea \U0001f600", "x"]
    assert [e.target for e in read.examples] == ["a", "b", "c\ufffd"]
    assert read.warnings == ("2 row(s) with half a surrogate pair, read as U+FFFD (first: line 1).",)
