"""The result table and its files."""

import json

from jax_mspac.runs import results


def make_results():
    score = {"mean": 0.25, "std": 0.05, "trials": [0.2, 0.3]}
    row = {
        "protocol": "seeded",
        "mode": "all",
        "shots": 1,
        "direction": "infrared->visible",
        "queries": 10,
        "gallery": 5,
        **dict.fromkeys(results.SCORES, score),
    }
    rows = [
        {**row, "feature": "before_neck"},
        {**row, "feature": "after_neck", "shots": None, "mAP": {**score, "mean": 0.5}},
    ]
    baselines = {"chance": {"rank1": 0.01, "mAP": 0.03}}
    return {"rows": rows, "primary": 1, "notes": ["Simulated infrared."], "baselines": baselines}


def test_table_is_in_percent_and_marks_the_primary():
    text = results.markdown(make_results())
    lines = text.splitlines()
    assert lines[0] == "Simulated infrared."
    plain, marked = lines[4], lines[5]
    assert "25.00 ± 5.00" in plain and "**" not in plain
    assert "**after_neck**" in marked and "**50.00 ± 5.00**" in marked and "**all**" in marked
    assert "| chance   | 1.00   | 3.00 |" in text


def test_reranked_rows_are_explained_under_the_table():
    plain = make_results()
    reranked = {**plain, "rows": [*plain["rows"], {**plain["rows"][0], "feature": "before_neck+k_reciprocal"}]}
    assert "re-ranked" not in results.markdown(plain)
    paragraphs = results.markdown(reranked).split("\n\n")
    assert "before_neck+k_reciprocal" in paragraphs[1] and paragraphs[2].startswith("Features with a + are re-ranked")


def test_columns_are_aligned():
    text = results.table(("a", "long header"), [("wide cell", "b"), ("c", "d")])
    assert len({len(line) for line in text.splitlines()}) == 1


def test_files_hold_the_results(tmp_path):
    expected = make_results()
    results.write(expected, tmp_path)
    assert json.loads((tmp_path / results.JSON_FILE).read_text()) == expected
    assert (tmp_path / results.MARKDOWN_FILE).read_text() == results.markdown(expected)
    assert len(list(tmp_path.iterdir())) == 2
