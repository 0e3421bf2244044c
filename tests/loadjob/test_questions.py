"""Question files: the shipped files are complete, and an invalid file is rejected with file, line and reason."""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.contracts.loadrun import Order
from llmendpoint_common.process.errors import QuestionError
from llmendpoint_loadjob.dataset import question_file
from llmendpoint_loadjob.dataset.prompts import Prompt, matches, prompts_of_questions
from llmendpoint_loadjob.dataset.question_file import Question, parse_file
from llmendpoint_loadjob.dataset.questions import (
    categories,
    parse_questions,
    read_questions,
    sample,
    shipped_questions,
    skipped,
    validate,
)
from llmendpoint_loadjob.inputs import read_inputs
from llmendpoint_loadjob.settings import parse_settings

CATEGORIES = (
    "Coding", "Creative", "Analysis", "Reasoning", "Math", "Science", "Humanities", "Summarization", "Extraction",
    "Roleplay", "Multilingual",
)  # fmt: skip
HEAD = "category: X\nquestions:\n"


@pytest.fixture(scope="module")
def shipped() -> list[Question]:
    return read_questions(shipped_questions())


def words(question: Question) -> int:
    return len(question.prompt.split())


# The shipped questions


def test_eleven_categories_are_shipped_with_at_least_forty_questions_each(shipped: list[Question]) -> None:
    counts = {count.name: count for count in categories(shipped)}
    assert set(counts) == set(CATEGORIES)
    assert all(count.questions >= 40 for count in counts.values())
    assert all(count.with_turns >= 3 and count.with_expect >= 15 for count in counts.values())
    assert len({question.id for question in shipped}) == len(shipped)
    assert len({question.prompt for question in shipped}) == len(shipped)


@pytest.mark.parametrize("category", CATEGORIES)
def test_each_category_has_short_and_long_prompts(shipped: list[Question], category: str) -> None:
    mine = [question for question in shipped if question.category == category]
    assert sum(words(question) <= 25 for question in mine) >= 10
    assert sum(words(question) >= 200 for question in mine) >= 3
    assert any(question.system for question in mine)


def test_the_tags_of_lengths_are_true(shipped: list[Question]) -> None:
    for question in shipped:
        if "short" in question.tags:
            assert words(question) <= 40, question.id
        if "long" in question.tags:
            assert words(question) >= 200, question.id


def test_no_long_sentence_is_in_two_questions(shipped: list[Question]) -> None:
    seen: dict[str, str] = {}
    for question in shipped:
        for sentence in {text.strip() for text in question.prompt.replace("\n", " ").split(". ")}:
            if len(sentence.split()) > 8:
                assert sentence not in seen, f"{question.id} and {seen[sentence]}: {sentence}"
                seen[sentence] = question.id


def test_the_shipped_files_fit_into_config_maps() -> None:
    assert all(path.stat().st_size < 200 * 1024 for path in shipped_questions().iterdir())


ANSWERS = {
    "math-012": ("The sum is 200 · 201 / 2.\n\n20,100", "The sum is 20,200."),
    "math-015": (r"It is \(\frac{4}{11}\).", "It is 36/100."),
    "math-017": ("101101₂ = 32 + 8 + 4 + 1 = **45**", "It is 43."),
    "math-022": ("120", "The sweater cost 109.20 euros."),
    "math-026": ("The line is y = -2x + 9.", "The line is y = 2x + 1."),
    "math-044": ("It is 125/216, about 57.9 %.", "It is 91/216."),
    "math-045": ("The legs have 0.221 cubic metres.", "All numbers are right."),
    "reasoning-043": ("Juno, Greta, Farid, Hugo, Ilse, Karl", "Juno, Hugo, Farid, Greta, Ilse, Karl"),
    "multilingual-046": ("neuf mille huit cent soixante-seize", "neuf mille huit cent soixante-six"),
    "math-042": ("The best price is 3.25 euros.", "The best price is 3.50 euros."),
    "reasoning-017": ("The argument is not valid.", "Certainly, all of it follows."),
    "reasoning-025": ("Anton, Chris, Dora, Bea", "There is none."),
    "reasoning-033": ("Take the 13:10; you arrive at 13:57.", "Take the 13:30."),
    "extraction-012": ("1887", "It was built in 1887."),
    "extraction-021": ('{"product": "oat milk", "amount": 40, "unit": "litre"}', '```json\n{"amount": 40}\n```'),
    "extraction-029": ("2024-02-28\n2024-02-27\n2024-03-01\n2024-03-09", "2024-03-10"),
    "coding-014": ("It prints `[1, 9]`.", "[0, 1, 4, 9, 16]"),
    "coding-029": ("It prints 300 44.", "It prints 300 300."),
    "science-023": ("1/16 of it is left.", "1/4 of it is left."),
    "science-031": ("C3H8 + 5 O2 → 3 CO2 + 4 H2O, so 132 g.", "44 g."),
    "humanities-026": ("14th century", "In the 1340s"),
    "multilingual-015": ("4.320", "4.230"),
    "multilingual-018": ("中国最长的河流是长江。", "黄河。"),
}


@pytest.mark.parametrize("identity", ANSWERS)
def test_an_expectation_tells_right_from_wrong(shipped: list[Question], identity: str) -> None:
    (question,) = [question for question in shipped if question.id == identity]
    right, wrong = ANSWERS[identity]
    assert matches(question, right) is True
    assert matches(question, wrong) is False


# Invalid files


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("category: X\nquestions: []\n", 2, "at least one"),
        (f"{HEAD}  - id: a\n", 3, "'prompt' is missing"),
        (f"{HEAD}  - {{id: a, prompt: p}}\n  - {{id: a, prompt: q}}\n", 4, "occurs twice, first in line 3"),
        (f"{HEAD}  - {{id: a, prompt: p, promt: q}}\n", 3, "unknown field 'promt'"),
        (f"{HEAD}  - {{id: a, prompt: p, {'x' * 999}: q}}\n", 3, "unknown field 'x{60}…'"),
        (f"{HEAD}  - {{id: a, prompt: p, prompt: q}}\n", 3, "field 'prompt' occurs twice"),
        (f"{HEAD}  - {{id: A b, prompt: p}}\n", 3, "lowercase letters"),
        (f"{HEAD}  - {{id: {'a' * 65}, prompt: p}}\n", 3, "at most 64 characters"),
        (f"{HEAD}  - id: a\n    prompt: p\n    maxTokens: many\n", 5, "whole number"),
        (f"{HEAD}  - id: a\n    prompt: p\n    maxTokens: ²\n", 5, "whole number"),
        (f"{HEAD}  - id: a\n    prompt: p\n    maxTokens: 0\n", 5, "whole number"),
        (f"{HEAD}  - id: a\n    prompt: p\n    maxTokens: 010\n", 5, "whole number"),
        (f"{HEAD}  - id: a\n    prompt: p\n    maxTokens: {'9' * 5000}\n", 5, "from 1 to 1000000"),
        (f"{HEAD}  - id: a\n    prompt: 12\n", 4, "prompt must be a string that is not empty; put it in quotes"),
        (f"{HEAD}  - id: a\n    prompt: ' '\n", 4, "prompt must be a string that is not empty$"),
        (f"{HEAD}  - id: a\n    prompt: [p]\n", 4, "prompt must be a string"),
        (f"{HEAD}  - id: a\n    prompt: !!python/name:os.system p\n", 4, "prompt must be a string"),
        (f"{HEAD}  - id: a\n    prompt: p\n    tags: short\n", 5, "tags must be a list of strings"),
        (f"{HEAD}  - id: a\n    prompt: p\n    turns: [{'t, ' * 65}]\n", 5, "turns has more than 64 entries"),
        (f"{HEAD}  - id: a\n    prompt: p\n    expect: '('\n", 5, "regular expression"),
        (f"{HEAD}  - id: a\n    prompt: p\n    expect: '(?=a)'\n", 5, r"regular expression \(RE2 syntax\)"),
        (f"{HEAD}  - id: a\n    prompt: p\n    expect: '(a{{1000}}){{1000}}'\n", 5, "repetition"),
        (f"{HEAD}  - id: a\n    prompt: p\n    expect: '{'a' * 1001}'\n", 5, "more than 1000 characters"),
        (f"{HEAD}  - id: a\n   prompt: p\n", 4, "not valid YAML"),
        (f"{HEAD}  - id: a\n\tprompt: p\n", 4, "not valid YAML"),
        (f"{HEAD}  - ? [a, list]\n    : p\n    id: a\n    prompt: p\n", 3, "must be a string, not a list or an object"),
        (f"{HEAD}  - ? {{an: object}}\n    : p\n    id: a\n    prompt: p\n", 3, "not a list or an object"),
        (f'{HEAD}  - id: a\n    prompt: "half \\ud800"\n', 4, r"\\ud800|U\+D800|Unicode|unicode"),
        (f"{HEAD}  - &a {{id: a, prompt: p}}\n  - *a\n", 4, r"aliases such as \*a are not supported"),
        (f"{HEAD}  - {'[' * 100_000}\n", 3, "nest(ed more than 8 levels deep|ing depth)"),
        (f"{HEAD}  - {'{a: ' * 20_000}\n", 3, "nested more than 8 levels deep"),
        (f"{HEAD}  - id: a\n    prompt: |\n      p\x07\n", 5, r"character U\+0007 is not allowed"),
        (f"{HEAD}  - {{id: a, prompt: p}}\n---\n{HEAD}", 4, "not valid YAML: .*document"),
        (f"category: {'x' * 65}\nquestions:\n  - {{id: a, prompt: p}}\n", 1, "one line of at most 64 characters"),
        ('category: "a\\n"\nquestions:\n  - {id: a, prompt: p}\n', 1, "one line of at most 64 characters"),
        ("- just\n- a list\n", 1, "expected an object with the fields category, questions"),
        ("category: X\n", 1, "field 'questions' is missing"),
        ("", 1, "the file is empty"),
        ("# only a comment\n", 1, "the file is empty"),
    ],
)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_a_wrong_file_is_refused_with_file_line_and_reason(
    monkeypatch: pytest.MonkeyPatch, loader: str, text: str, line: int, reason: str
) -> None:
    monkeypatch.setattr(question_file, "_LOADER", getattr(yaml, loader))
    start = time.thread_time()
    with pytest.raises(QuestionError, match=rf"^mine\.yaml:{line}: .*{reason}"):
        parse_questions(text, "mine.yaml")
    assert time.thread_time() - start < 5


_FRAGMENTS = ["category: X\n", "questions:\n", "  - id: a\n", "    prompt: p\n", "    expect: '('\n", "? [", "{a: ", "&a ", "*a",
              "!!int ", "<<: ", "\t", "'", '"\\ud800"', "|\n", "---\n", "%YAML 9.9\n", "\ufeff", "\0", "²", "\r"]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(_FRAGMENTS), st.text(max_size=8)), max_size=20).map("".join))
def test_any_text_is_read_or_refused_with_its_file(text: str) -> None:
    parsed = parse_file(text.encode("utf-8", "surrogatepass"), "mine.yaml")
    assert parsed.errors or parsed.questions
    assert all(str(error).startswith("mine.yaml:") and error.reason.isprintable() for error in parsed.errors)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_with_their_file(data: bytes) -> None:
    assert parse_file(data, "mine.yaml").errors


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_bad_utf_8_is_refused_with_its_line(line_end: bytes) -> None:
    text = line_end.join(
        [b"category: X", b"questions:", b"  - id: a", "    prompt: größer \xff".encode("latin-1"), b""]
    )
    (error,) = parse_file(text, "mine.yaml").errors
    assert str(error) == "mine.yaml:4: byte 0xf6 is not valid UTF-8"


def test_a_byte_order_mark_and_windows_line_ends_are_accepted() -> None:
    text = "\ufeff" + f"{HEAD}  - id: a\n    prompt: |\n      one\n      two\n".replace("\n", "\r\n")
    (question,) = parse_questions(text, "mine.yaml")
    assert question.prompt == "one\ntwo\n"


def test_all_errors_of_all_files_are_reported(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"{HEAD}  - {{id: A, prompt: 1, maxTokens: x}}\n  - {{id: b, promt: p}}\n  - {{id: c, prompt: p}}\n")
    two.write_text(f"{HEAD}  - {{id: c, prompt: p, expect: '('}}\n  - {{id: c, prompt: p}}\n  - 7\n")
    assert [(Path(error.file).name, error.line) for error in validate([one, two, tmp_path / "no.yaml"])] == [
        ("one.yaml", 3), ("one.yaml", 3), ("one.yaml", 3), ("one.yaml", 4), ("one.yaml", 4),
        ("two.yaml", 3), ("two.yaml", 5), ("two.yaml", 4), ("no.yaml", 0),
    ]  # fmt: skip


def test_a_file_full_of_errors_has_a_bounded_report(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "  - 7\n" * 20_000)
    assert len(validate([tmp_path])) == 100


def test_the_shipped_files_have_no_errors() -> None:
    assert validate([shipped_questions()]) == []


# Files that are not files


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(QuestionError, match=r"a\.yaml: the file is not a regular file"):
        read_questions(tmp_path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "a.yaml").symlink_to(path)
    with pytest.raises(QuestionError, match=r"a\.yaml: the file is not a regular file"):
        read_questions(tmp_path)


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert [str(error).partition("cannot be read: ")[2] for error in validate([tmp_path])] == [
        "No such file or directory", "Too many levels of symbolic links",
    ]  # fmt: skip


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{HEAD}  - {{id: a, prompt: {'p ' * 110_000}}}\n")
    with pytest.raises(QuestionError, match=r"a\.yaml: the file is larger than 200 KiB; split it"):
        read_questions(tmp_path)


def test_a_folder_without_question_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("none yet")
    with pytest.raises(QuestionError, match="no question files"):
        read_questions(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"nowhere: .*No such file"):
        read_questions(tmp_path / "nowhere")


def test_a_file_name_that_is_not_utf_8_can_be_printed(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml")).write_text("")
    (error,) = validate([tmp_path])
    assert str(error).encode().decode("ascii").endswith(".yaml:1: the file is empty; expected an object with the fields "
                                                        "category, questions")  # fmt: skip


def test_the_volume_of_a_config_map_is_read_once(tmp_path: Path) -> None:
    """Kubelet writes each version into a folder of its own, and links to it twice."""
    version = tmp_path / "..2026_01_02_03_04_05.1"
    for source, identity in (("team-a", "a"), ("team-b", "b")):
        (version / source).mkdir(parents=True)
        (version / source / "questions.yaml").write_text(f"{HEAD}  - {{id: {identity}, prompt: p}}\n")
        (tmp_path / source).symlink_to(Path("..data") / source)
    (tmp_path / "..data").symlink_to(version.name)
    assert [question.id for question in read_questions(tmp_path)] == ["a", "b"]
    (version / "team-b" / "questions.yaml").write_text(f"{HEAD}  - {{id: a, prompt: p}}\n")
    with pytest.raises(QuestionError, match=r"team-b/questions\.yaml:3: id 'a' is also in .*team-a/questions\.yaml"):
        read_questions(tmp_path)


def test_one_file_can_be_read_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{HEAD}  - {{id: a, prompt: p}}\n")
    assert [question.id for question in read_questions(tmp_path / "mine.yaml")] == ["a"]


def test_several_folders_are_read_together(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.yaml").write_text(f"{HEAD}  - {{id: {name}, prompt: p}}\n")
    folders = parse_settings(["--model=m", *(f"--questions={tmp_path / name}" for name in "aba")]).questions
    assert [question.id for question in read_questions(*folders)] == ["a", "b"]
    (tmp_path / "b/own.yaml").write_text(f"{HEAD}  - {{id: a, prompt: p}}\n")
    with pytest.raises(QuestionError, match=r"b/own\.yaml:3: id 'a' is also in .*a/own\.yaml"):
        read_questions(*folders)


def test_suffixes_may_be_in_any_case_and_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.YAML", "more/b.Yml", "c.json", "more/d.bak", "README.md", "LICENSE", ".hidden.json"):
        (tmp_path / name).write_text(f"{HEAD}  - {{id: {Path(name).stem.lower()}, prompt: p}}\n")
    assert [question.id for question in read_questions(tmp_path)] == ["a", "b"]
    assert skipped([tmp_path, tmp_path / "c.json", tmp_path / "nowhere"]) == [
        f"{tmp_path / name}: the file is skipped, because its name does not end in .yaml or .yml"
        for name in ("c.json", "more/d.bak")
    ]


def test_a_run_names_the_files_that_it_skips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.yaml").write_text(f"{HEAD}  - {{id: a, prompt: p}}\n")
    (tmp_path / "b.json").write_text("{}")
    read_inputs(parse_settings(["--model=m", f"--questions={tmp_path}"]))
    assert [record.getMessage() for record in caplog.records] == skipped([tmp_path])


def test_the_number_of_categories_has_a_limit(tmp_path: Path) -> None:
    for index in range(257):
        (tmp_path / f"{index}.yaml").write_text(f"category: C{index}\nquestions:\n  - {{id: q{index}, prompt: p}}\n")
    with pytest.raises(QuestionError, match="more than 256 categories"):
        read_questions(tmp_path)


def test_the_number_of_questions_has_a_limit(tmp_path: Path) -> None:
    for name in "abcdef":
        items = "".join(f"  - {{id: {name}{index}, prompt: p}}\n" for index in range(4_000))
        (tmp_path / f"{name}.yaml").write_text(HEAD + items)
    with pytest.raises(QuestionError, match="more than 20000 questions"):
        read_questions(tmp_path)


# Expectations


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("(a+)+b", "a" * 60_000), (r"\w+:", "a" * 60_000), ("(.*a){20}", "a" * 60_000), (r"\s*=\s*4", " " * 60_000)],
)
def test_no_expectation_delays_the_other_requests(pattern: str, text: str) -> None:
    (question,) = parse_questions(f"{HEAD}  - {{id: a, prompt: p, expect: '{pattern}'}}\n", "mine.yaml")
    start = time.thread_time()
    matches(question, text)
    assert time.thread_time() - start < 1


def test_both_ends_of_a_long_response_are_searched() -> None:
    (question,) = parse_questions(f"{HEAD}  - {{id: a, prompt: p, expect: '^42|7$'}}\n", "mine.yaml")
    assert matches(question, "42" + " x" * 1_000_000)
    assert matches(question, "x " * 1_000_000 + "7")
    assert not matches(question, "x " * 1_000_000)


def test_a_response_of_any_characters_can_be_checked() -> None:
    (question,) = parse_questions(f"{HEAD}  - {{id: a, prompt: p, expect: 'é'}}\n", "mine.yaml")
    assert matches(question, "\ud800 \0 é")


def test_a_question_without_an_expectation_is_not_checked() -> None:
    assert matches(Question("a", "X", "p"), "anything") is None


# The order and choice of questions


def test_the_same_seed_asks_the_same_questions(shipped: list[Question]) -> None:
    first, again, other = (
        [prompt.id for prompt in islice(prompts_of_questions(shipped, ["Math"], Order.SHUFFLED, seed), 100)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert all(identity.startswith("math-") for identity in first)
    count = len([question for question in shipped if question.category == "Math"])
    assert sorted(first[:count]) == sorted(first[count : 2 * count])


def test_sequential_rounds_keep_the_order_of_the_files(shipped: list[Question]) -> None:
    wanted = [question.id for question in shipped if question.category in ("Analysis", "Coding")]
    prompts = prompts_of_questions(shipped, ["Coding", "Analysis"], Order.SEQUENTIAL, 1)
    assert [prompt.id for prompt in islice(prompts, 2 * len(wanted))] == wanted * 2
    assert wanted[0] == "analysis-001"


def test_conversations_ask_the_questions_that_have_turns(shipped: list[Question]) -> None:
    with_turns = {question.id for question in shipped if question.turns}
    prompts = prompts_of_questions(shipped, [], Order.SHUFFLED, 1, prefer_turns=True)
    assert {prompt.id for prompt in islice(prompts, len(with_turns))} == with_turns


def test_conversations_ask_all_questions_if_none_has_turns(shipped: list[Question]) -> None:
    single = [question for question in shipped if not question.turns]
    prompts = prompts_of_questions(single, [], Order.SHUFFLED, 1, prefer_turns=True)
    assert {prompt.id for prompt in islice(prompts, len(single))} == {question.id for question in single}


@pytest.mark.parametrize(
    ("flags", "turns"), [(["--sessions=3"], True), (["--sessions=3", "--turns=1"], False), (["--concurrency=3"], False)]
)
def test_only_conversations_of_several_turns_leave_questions_out(flags: list[str], turns: bool) -> None:
    inputs = read_inputs(parse_settings(["--model=m", *flags], environment={}))
    assert all(prompt.follow_ups for prompt in islice(inputs.prompts, 100)) is turns


def test_a_question_becomes_the_messages_of_a_request() -> None:
    text = f"{HEAD}  - {{id: a, system: s, prompt: p, turns: [t, u], maxTokens: 5, expect: e}}\n"
    prompt = next(prompts_of_questions(parse_questions(text, "mine.yaml"), [], Order.SEQUENTIAL, 1))
    assert prompt == Prompt("a", "X", (("system", "s"), ("user", "p")), 5, prompt.expect, ("t", "u"))
    assert matches(prompt, "yes") is True


@pytest.mark.parametrize("names", [["Poetry"], ["Math", "Poetry"]])
def test_an_unknown_category_names_those_that_are_there(shipped: list[Question], names: list[str]) -> None:
    with pytest.raises(ValueError, match="category Poetry; the categories are Analysis, Coding"):
        prompts_of_questions(shipped, names, Order.SEQUENTIAL, 1)


def test_a_sample_is_the_same_for_the_same_seed(shipped: list[Question]) -> None:
    first, again, other = (sample(shipped, "Math", 5, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({question.id for question in first}) == 5
    assert len(sample(shipped, "Math", 1_000, 1)) == dict(count[:2] for count in categories(shipped))["Math"]
    assert {question.category for question in sample(shipped, None, 200, 1)} == set(CATEGORIES)
    with pytest.raises(ValueError, match="Poetry"):
        sample(shipped, "Poetry", 1, 1)
