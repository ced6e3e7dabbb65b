#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_docs.py CHECK ROOT: compares the documentation with the tree.

examples  a C or C++ block whose first line names a file (// examples/x.cc) is found in that file,
          line for line; README.md shows two whole programs
links     a relative link leads to a file of the tree, and its #anchor to a heading there
names     the pages that list modules, report fields, faults, limits and benchmark bounds list all
"""
import pathlib
import re
import sys

CODE_FILES = ("c", "cpp")


def pages(root):
    """Every Markdown file that belongs to the tree."""
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("tests/**/*.md")]
    return sorted(found)


def blocks(text):
    """(language, lines) of every fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match.group(1), match.group(2).splitlines()


def without_head(lines):
    """A source file after the comment at its head."""
    start = 0
    while start < len(lines) and re.match(r"//|/\*| \*", lines[start]):
        start += 1
    return lines[start:]


def check_examples(root):
    whole = 0
    for page in pages(root):
        for language, lines in blocks(page.read_text()):
            if language not in CODE_FILES or not lines:
                continue
            where = f"{page.relative_to(root)}: {lines[0]}"
            name = re.fullmatch(r"(?://|/\*) ([\w./]+\.(?:cc|c|h))(?: \*/)?", lines[0])
            if name is None:
                if page.name == "README.md":
                    yield f"{where}: the first line of a program must name its file"
                continue
            source = (root / name.group(1)).read_text().splitlines()
            if lines[1:] == without_head(source):
                whole += page.name == "README.md"
            elif "\n".join(lines[1:]) not in "\n".join(source):
                yield f"{where}: differs from that file"
    if whole < 2:
        yield f"README.md shows {whole} whole programs, 2 are expected"


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def check_links(root):
    for page in pages(root):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path if path else page).resolve()
            where = f"{page.relative_to(root)}: {link}"
            if not target.exists() or not target.is_relative_to(root.resolve()):
                yield f"{where}: there is no such file"
            elif anchor and anchor not in anchors(target):
                yield f"{where}: there is no such heading"


def check_names(root):
    def read(path):
        return (root / path).read_text()

    def expect(page, cells, what):
        text = read(page)
        for cell in cells:
            if cell not in text:
                yield f"{page}: {what} {cell} is missing"

    line = r"waxvm_module\(NAME (\w+) LAYER (\d)(?: DEPENDS ([\w ]+?))?\s*(?:LINK|\))"
    rows = [f"| {layer} | `{name}` | {depends.strip() or '–'} |"
            for name, layer, depends in re.findall(line, read("src/CMakeLists.txt"))]
    yield from expect("docs/design.md", rows, "the module")

    fields = set(re.findall(r'\.Add\("(\w+)"', read("src/supervisor/report_json.cc")))
    yield from expect("docs/report.md", [f"`{name}`" for name in sorted(fields)], "the field")

    kinds = set(re.findall(r'return "(\w+)"', read("src/isolation/names.cc")))
    kinds -= {"unknown"}
    yield from expect("docs/errors.md", [f"`{name}`" for name in sorted(kinds)], "the name")

    ratios = [line.split("\t") for file in sorted((root / "benchmarks").glob("*.ratios"))
              for line in file.read_text().splitlines() if line and not line.startswith("#")]
    rows = [f"| `{top}` | `{bottom}` | {'–' if bound == '-' else bound} |"
            for top, bottom, bound in ratios]
    yield from expect("docs/performance.md", rows, "the ratio")


def main():
    check = {"examples": check_examples, "links": check_links, "names": check_names}[sys.argv[1]]
    problems = list(check(pathlib.Path(sys.argv[2])))
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
