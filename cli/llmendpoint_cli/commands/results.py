"""`llmendpoint results`: shows the result of a run, fetches that of a LoadTest, and compares two runs.

It exits as the verdict of the run does, so that a pipeline can apply a LoadTest and wait for its result.
"""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from llmendpoint_cli.runs import FAILURES, Run, cluster_options, exit_code_of_error, find_run
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.runs import stored_runs
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import OutputError
from llmendpoint_common.process.flags import Flags, choice, one_of
from llmendpoint_common.process.streams import tolerated_output
from llmendpoint_common.results.comparison import compare
from llmendpoint_loadjob.report.comparison_output import ComparisonFormat, print_comparison
from llmendpoint_loadjob.report.files import REQUESTS, OutputFolder, open_result
from llmendpoint_loadjob.report.flat import requests_csv
from llmendpoint_loadjob.report.output import OutputFormat, print_summary
from llmendpoint_loadjob.report.page.compare_page import comparison_page
from llmendpoint_loadjob.report.pods import merged_lines

ENVIRONMENT_PREFIX = "LLMENDPOINT_RESULTS_"

_DESCRIPTION = "Show the result of a load run: a summary.json, the folder of a run, or a LoadTest on a cluster."
_EXAMPLES = """examples:
  llmendpoint results
  llmendpoint results out
  llmendpoint results default/nightly --out nightly
  llmendpoint results default/nightly --wait --format json
  llmendpoint results compare before after --format html > compare.html

exit codes: that of the run's verdict (0 Passed or no objectives, 99 Failed, 98 Invalid, 1 Error, 130 interrupted);
1 if the cluster cannot be read, 2 if an option or a file is wrong. compare: 0, unless a run cannot be read
"""
_COMPARE_DESCRIPTION = "Compare two load runs. The first one is the baseline; the better value of each line is marked."


def command_line(program: str = "llmendpoint results") -> Flags:
    """Return the options that show a run."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _EXAMPLES)
    flags.positional("RUN", "a summary.json, the folder of a run, or NAMESPACE/NAME of a LoadTest (default: list the "
                     "runs that `llmendpoint load` has stored while a stack was up)", "?")  # fmt: skip
    output = flags.group("output")
    output.option("out", Path, None, "folder for summary.json, report.html and summary.csv of the run, and for "
                  "requests.jsonl if it is in RUN; that of a LoadTest on a cluster is only in the volume of "
                  "spec.results, and cannot be fetched")  # fmt: skip
    output.option("format", choice(OutputFormat), "table", f"result on stdout: {one_of(OutputFormat)}", value="FORMAT")
    output.switch("requests", "print a row of CSV per request instead; needs the requests.jsonl of the run")
    group = flags.group("cluster")
    group.switch("wait", "wait until the LoadTest has ended")
    cluster_options(group)
    return flags


def compare_command_line(program: str = "llmendpoint results compare") -> Flags:
    """Return the options that compare two runs."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _COMPARE_DESCRIPTION, _EXAMPLES)
    flags.positional("BASELINE", "the earlier run: a summary.json, a folder, or NAMESPACE/NAME of a LoadTest")
    flags.positional("RUN", "the run to compare with it")
    output = flags.group("output")
    output.option("format", choice(ComparisonFormat), "table", f"{one_of(ComparisonFormat)}", value="FORMAT")
    output.option("out", Path, None, "file for a page with both runs, such as compare.html", value="FILE")
    cluster_options(flags.group("cluster"))
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint results") -> int:
    """Show a run, or compare two, and return the exit code."""
    try:
        if arguments and arguments[0] == "compare":
            name = f"{program} compare"
            return _compare(compare_command_line(name).parse(arguments[1:]))
        name = program
        flags = command_line(name)
        options = flags.parse(_with_short(arguments))
        return _list(flags, options) if options.run is None else _show(options)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except FAILURES as error:
        print(f"{name}: {error}", file=sys.stderr)
        return exit_code_of_error(error)


def _with_short(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `-o`, which kubectl's users expect, written in full."""
    return ["--out" if word == "-o" else word for word in arguments]


def _list(flags: Flags, options: Namespace) -> int:
    """Print the runs in the state folder, the newest first, and return the exit code."""
    if options.wait or options.requests or options.out is not None or options.format is not OutputFormat.TABLE:
        flags.refuse("--out, --format, --requests and --wait need a RUN")
    folder = Folders().runs
    runs = stored_runs(folder)
    with tolerated_output():
        if not runs:
            print(f"{folder} has no runs. Without --out, `llmendpoint load` stores its runs there while a stack is up.")
        for run in runs:
            print(run)
    return exit_codes.OK


def _show(options: Namespace) -> int:
    run = find_run(options.run, options, is_awaited=options.wait)
    if run.summary is None:
        print(f"{run.name}: {run.message}", file=sys.stderr)
        return run.exit_code
    if options.out is not None:
        _write(options.out, run)
    if options.requests:
        _print_requests(run)
    else:
        print_summary(run.summary, options.format, run.folder, written=options.out)
    return run.exit_code


def _write(path: Path, run: Run) -> None:
    """Write the files of a run, and copy the lines of its requests if they exist here."""
    if run.summary is None:
        return
    folder = OutputFolder(path)
    folder.prepare()
    try:
        _write_requests(path / REQUESTS, run)
        folder.write(run.summary)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    finally:
        folder.release()


def _write_requests(path: Path, run: Run) -> None:
    """Write the lines of the requests of a run to a file, or remove the file if they do not exist here."""
    source = None if run.folder is None else run.folder / REQUESTS
    if not run.pods and (source is None or not source.exists()):
        # The lines of an earlier run would stand beside the other files of this one.
        path.unlink(missing_ok=True)
    elif source is None or not path.exists() or not path.samefile(source):
        with _opened_requests(run) as lines, path.open("wb") as file:
            file.writelines(lines)


def _print_requests(run: Run) -> None:
    with _opened_requests(run) as lines, tolerated_output():
        sys.stdout.writelines(requests_csv(lines))


@contextlib.contextmanager
def _opened_requests(run: Run) -> Iterator[Iterable[bytes]]:
    """Open the lines of the requests of a run. Raises OutputError if they do not exist here."""
    if run.pods:
        yield merged_lines(run.pods)
    elif run.folder is not None:
        with open_result(run.folder / REQUESTS) as lines:
            yield lines
    else:
        raise OutputError(
            f"{run.name}: a LoadTest keeps request lines only in a volume (spec.results); copy the folder of the run "
            "from there, and name it instead"
        )


def _compare(options: Namespace) -> int:
    names = [options.baseline, options.run]
    runs = [find_run(name, options) for name in names]
    summaries = []
    for run in runs:
        if run.summary is None:
            raise OutputError(f"{run.name} has no result: {run.message}")
        summaries.append(run.summary)
    comparison = compare(summaries[0], summaries[1], _labels(names))
    if options.out is not None:
        try:
            options.out.write_text(comparison_page(comparison), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{options.out}: {error.strerror}") from error
    print_comparison(comparison, options.format)
    return exit_codes.OK


def _labels(names: Sequence[str]) -> tuple[str, str]:
    """Return the names of both runs: those of their files or folders, or A and B if these are the same."""
    short = [Path(name).name or name for name in names]
    if short[0] == short[1]:
        short = names if names[0] != names[1] else ["A", "B"]  # type: ignore[assignment]
    return short[0], short[1]
