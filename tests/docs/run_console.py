#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run_console.py ROOT BINARY_DIR PAGE…: types what the console blocks of the pages show.

The commands of one page run in one shell, in an empty folder from which the tree can be reached by
the names that the page uses, and must print what the page shows. Addresses, counts of exits, the
time and random bytes may differ; a line that is … stands for any number of lines. Exits with 77,
and the reason, where something that the pages need is not there.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d UTC (?!2000)\d{4}"
VARIABLE = [(DATE, "DATE"), (r"\b0x[0-9a-f]+", "ADDRESS"), (r'"vm_exits": \d+', "EXITS"),
            (r"^( [0-9a-f]{2}){4}$", "BYTES")]


def commands(page):
    """(command, lines it prints) for every `$ ` of the page's console blocks; `> ` goes on with it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> "):
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", found[-1][1])
            else:
                found[-1][1].append(line)
    return found


def constant(line):
    for pattern, name in VARIABLE:
        line = re.sub(pattern, name, line)
    return line


def matches(expected, printed):
    """Whether the lines are those expected, … standing for any."""
    if not expected:
        return not printed
    if expected[0] == "…":
        return any(matches(expected[1:], printed[skip:]) for skip in range(len(printed) + 1))
    return bool(printed) and constant(expected[0]) == constant(printed[0]) and \
        matches(expected[1:], printed[1:])


def run(page, root, binary_dir):
    typed = commands(page)
    script = "mark() { local status=$?; echo; echo \"@@$1\"; return $status; }\n"
    script += "".join(f"mark {i}\n{command}\n" for i, (command, _) in enumerate(typed))
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "build").mkdir()
        (work / "build/release").symlink_to(binary_dir)
        for name in ("include", "tests"):
            (work / name).symlink_to(root / name)
        printed = subprocess.run(
            ["bash", "-c", f"PATH=$PWD/build/release/examples:$PATH\n{script}"], cwd=work,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=100, check=False).stdout
    parts = re.split(r"^\n?@@\d+\n", printed, flags=re.MULTILINE)[1:]
    for (command, expected), part in zip(typed, parts, strict=True):
        lines = part.removesuffix("\n").splitlines()
        if not matches(expected, lines):
            shown = "\n  ".join(["expected:", *expected, "printed:", *lines])
            yield f"{page.relative_to(root)}: $ {command}\n  {shown}"


def reason_to_skip(binary_dir):
    for tool in ("/usr/bin/busybox", "/usr/bin/python3", "gcc", "jq"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for provider in ("microvm", "process"):
        command = [str(binary_dir / "examples/waxvm"), "run", f"--provider={provider}", "--",
                   "/usr/bin/busybox", "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return done.stderr.strip()
    return None


def main():
    root, binary_dir = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    reason = reason_to_skip(binary_dir)
    if reason is not None:
        print(f"skipped: {reason}")
        return 77
    problems = [problem for page in sys.argv[3:] for problem in run(root / page, root, binary_dir)]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
