# SPDX-License-Identifier: Apache-2.0
"""python_test.py LIBRARY PROVIDER: the C ABI as another language sees it."""
import ctypes as c
import json
import os
import sys

PROVIDERS = {"process": 1, "microvm": 2}
OK, INVALID_ARGUMENT, PERMISSION_DENIED, UNAVAILABLE = 0, 3, 7, 14


class Error(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("code", c.c_int32), ("message", c.c_char * 1020)]

    def __init__(self):
        super().__init__(struct_size=c.sizeof(Error))


OUTPUT = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_void_p, c.c_size_t)
FUNCTION = c.CFUNCTYPE(c.c_int32, c.c_void_p, c.c_void_p, c.c_void_p, c.c_size_t)


class Options(c.Structure):
    _fields_ = (
        [("struct_size", c.c_size_t)]
        + [(name, c.c_uint64) for name in ("memory_bytes", "wall_time_ns", "cpu_time_ns",
                                           "output_bytes", "open_files", "processes", "host_calls")]
        + [("argument_zero", c.c_char_p),
           ("arguments", c.POINTER(c.c_char_p)), ("argument_count", c.c_size_t),
           ("environment", c.POINTER(c.c_char_p)), ("environment_count", c.c_size_t),
           ("input", c.c_char_p), ("input_bytes", c.c_size_t),
           ("input_fd", c.c_int), ("reserved", c.c_int),
           ("grants", c.c_void_p), ("output", OUTPUT), ("output_user_data", c.c_void_p),
           ("label", c.c_char_p)])

    def __init__(self, **fields):
        super().__init__(struct_size=c.sizeof(Options), input_fd=-1, **fields)


lib = c.CDLL(sys.argv[1])
for name in ("waxvm_version", "waxvm_call_label", "waxvm_result_limit", "waxvm_result_fault",
             "waxvm_result_output", "waxvm_result_error_output", "waxvm_result_report_json"):
    getattr(lib, name).restype = c.c_char_p
lib.waxvm_call_reply.argtypes = [c.c_void_p, c.c_char_p, c.c_size_t]
for name in ("waxvm_result_outcome", "waxvm_result_exit_code", "waxvm_result_limit",
             "waxvm_result_fault", "waxvm_result_report_json", "waxvm_result_close",
             "waxvm_supervisor_close", "waxvm_grants_close"):
    getattr(lib, name).argtypes = [c.c_void_p]


def strings(*items):
    return (c.c_char_p * len(items))(*items)


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def run(host, program, options):
    result, error = c.c_void_p(), Error()
    path = os.path.join(os.environ["WAXVM_GUEST_DIR"], program).encode()
    code = lib.waxvm_run_file(host, path, c.byref(options), c.byref(result), c.byref(error))
    check(code == OK, f"{program}: {code} {error.message.decode()}")
    size = c.c_size_t()
    lib.waxvm_result_output(result, c.byref(size))
    seen = {"outcome": lib.waxvm_result_outcome(result), "exit": lib.waxvm_result_exit_code(result),
            "limit": lib.waxvm_result_limit(result),
            "output": lib.waxvm_result_output(result, None), "bytes": size.value,
            "report": json.loads(lib.waxvm_result_report_json(result))}
    lib.waxvm_result_close(result)
    return seen


def check_arguments(host):
    options = Options(memory_bytes=64 << 20, arguments=strings(b"one", b"two words"),
                      argument_count=2, environment=strings(b"KEY=value"), environment_count=1,
                      argument_zero=b"zero")
    seen = run(host, "hello_musl", options)
    expected = b"argv[0]=zero\nargv[1]=one\nargv[2]=two words\nenv[0]=KEY=value\n"
    check(seen["output"] == expected, f"arguments: {seen}")
    check(seen["bytes"] == len(expected) and seen["exit"] == 3 and seen["outcome"] == 0,
          f"exit: {seen}")
    check(seen["report"]["provider"] == sys.argv[2], f"report: {seen}")
    check(seen["report"]["output_bytes"] == len(expected), f"report: {seen}")


def check_host_function(host):
    calls = []

    @FUNCTION
    def greet(user_data, call, request, size):
        calls.append((c.string_at(request, size), lib.waxvm_call_label(c.c_void_p(call))))
        text = b"hello " + calls[-1][0]
        return lib.waxvm_call_reply(call, text, len(text))

    grants = c.c_void_p()
    check(lib.waxvm_grants_open(c.byref(grants), None) == OK, "grants_open")
    check(lib.waxvm_grants_add_function(grants, b"greet", greet, None, None, None) == OK, "add")
    options = Options(arguments=strings(b"python"), argument_count=1, grants=grants, label=b"me")
    seen = run(host, "host_call_musl", options)
    check(calls == [(b"python", b"me")], f"calls: {calls}")
    check(seen["output"] == b"0 hello python\n", f"host call: {seen}")
    check(seen["report"]["host_calls"] == 1, f"report: {seen}")
    lib.waxvm_grants_close(grants)


def check_output_callback(host):
    pieces = []

    @OUTPUT
    def take(user_data, stream, data, size):
        pieces.append(c.string_at(data, size))
        return 0

    data = bytes(range(256)) * 64
    seen = run(host, "cat_stdin_musl", Options(input=data, input_bytes=len(data), output=take))
    check(b"".join(pieces) == data, "the output callback's bytes differ from the input")
    check(seen["output"] == b"" and seen["exit"] == 0, f"callback: {seen}")


def check_limit(host):
    seen = run(host, "spin_musl", Options(wall_time_ns=200_000_000))
    check(seen["outcome"] == 2 and seen["limit"] == b"wall" and seen["exit"] == 124, f"{seen}")


def main():
    provider = PROVIDERS[sys.argv[2]]
    error = Error()
    if lib.waxvm_provider_available(provider, c.byref(error)) == UNAVAILABLE:
        print(f"skipped: {sys.argv[2]}: {error.message.decode()}")
        sys.exit(77)
    host = c.c_void_p()
    check(lib.waxvm_supervisor_open(99, c.byref(host), c.byref(error)) == INVALID_ARGUMENT,
          "a provider that does not exist")
    check(lib.waxvm_supervisor_open(provider, c.byref(host), c.byref(error)) == OK, error.message)
    check_arguments(host)
    check_host_function(host)
    check_output_callback(host)
    check_limit(host)
    lib.waxvm_supervisor_close(host)
    print(f"waxvm {lib.waxvm_version().decode()} from Python under {sys.argv[2]}: ok")


main()
