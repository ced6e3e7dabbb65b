# SPDX-License-Identifier: Apache-2.0
"""python_test.py LIBRARY PROVIDER: the C ABI as another language sees it."""
import ctypes as c
import json
import os
import sys
import threading

PROVIDERS = {"process": 1, "microvm": 2}
OK, CANCELLED, INVALID_ARGUMENT, PERMISSION_DENIED, ABORTED, UNIMPLEMENTED, UNAVAILABLE = (
    0, 1, 3, 7, 10, 12, 14)


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
           ("label", c.c_char_p), ("stop", c.c_void_p),
           ("authorizer", c.c_void_p), ("authorizer_user_data", c.c_void_p),
           ("fuel", c.c_uint64), ("identity", c.c_void_p)])

    def __init__(self, **fields):
        super().__init__(struct_size=c.sizeof(Options), input_fd=-1, **fields)


class CallOptions(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("wall_time_ns", c.c_uint64),
                ("cpu_time_ns", c.c_uint64), ("stop", c.c_void_p)]

    def __init__(self, **fields):
        super().__init__(struct_size=c.sizeof(CallOptions), **fields)


class PoolStats(c.Structure):
    _fields_ = [("struct_size", c.c_size_t)] + [
        (name, c.c_uint64) for name in ("instances", "ready", "kept", "in_use", "waiting", "calls",
                                        "created", "resets", "replaced")]


lib = c.CDLL(sys.argv[1])
for name in ("waxvm_version", "waxvm_call_label", "waxvm_result_limit", "waxvm_result_fault",
             "waxvm_result_output", "waxvm_result_error_output", "waxvm_result_report_json"):
    getattr(lib, name).restype = c.c_char_p
lib.waxvm_call_reply.argtypes = [c.c_void_p, c.c_char_p, c.c_size_t]
for name in ("waxvm_result_outcome", "waxvm_result_exit_code", "waxvm_result_limit",
             "waxvm_result_fault", "waxvm_result_report_json", "waxvm_result_close",
             "waxvm_supervisor_close", "waxvm_grants_close"):
    getattr(lib, name).argtypes = [c.c_void_p]


class Value:
    """Values of Python as messages of typed values, and back."""
    NEW = {"null": [], "bool": [c.c_int], "int64": [c.c_int64], "uint64": [c.c_uint64],
           "float64": [c.c_double], "text": [c.c_char_p, c.c_size_t],
           "data": [c.c_char_p, c.c_size_t], "list": [], "map": []}
    for name, arguments in NEW.items():
        function = getattr(lib, f"waxvm_value_new_{name}")
        function.restype, function.argtypes = c.c_void_p, arguments
    lib.waxvm_value_at.restype = c.c_void_p
    lib.waxvm_value_get_bytes.restype = lib.waxvm_value_key.restype = c.c_void_p
    lib.waxvm_value_count.restype = c.c_size_t

    @classmethod
    def make(cls, value):
        if value is None:
            return lib.waxvm_value_new_null()
        if isinstance(value, bool):
            return lib.waxvm_value_new_bool(value)
        if isinstance(value, int):
            return (lib.waxvm_value_new_int64 if value < 2**63 else lib.waxvm_value_new_uint64)(value)
        if isinstance(value, float):
            return lib.waxvm_value_new_float64(value)
        if isinstance(value, str):
            return lib.waxvm_value_new_text(value.encode(), len(value.encode()))
        if isinstance(value, bytes):
            return lib.waxvm_value_new_data(value, len(value))
        made = c.c_void_p(lib.waxvm_value_new_list() if isinstance(value, list)
                          else lib.waxvm_value_new_map())
        for item in value:
            if isinstance(value, list):
                lib.waxvm_value_append(made, c.c_void_p(cls.make(item)), None)
            else:
                key = item.encode()
                lib.waxvm_value_insert(made, key, c.c_size_t(len(key)),
                                       c.c_void_p(cls.make(value[item])), None)
        return made.value

    @classmethod
    def read(cls, value):
        value, size = c.c_void_p(value), c.c_size_t()
        kind = list(cls.NEW)[lib.waxvm_value_kind(value)]
        if kind == "null":
            return None
        if kind in ("text", "data"):
            data = c.string_at(lib.waxvm_value_get_bytes(value, c.byref(size)), size.value)
            return data.decode() if kind == "text" else data
        count = lib.waxvm_value_count(value)
        items = [cls.read(lib.waxvm_value_at(value, c.c_size_t(i))) for i in range(count)]
        if kind == "list":
            return items
        if kind == "map":
            keys = [c.string_at(lib.waxvm_value_key(value, c.c_size_t(i), c.byref(size)), size.value)
                    for i in range(count)]
            return {key.decode(): item for key, item in zip(keys, items)}
        number = {"bool": c.c_int, "int64": c.c_int64, "uint64": c.c_uint64,
                  "float64": c.c_double}[kind]()
        check(getattr(lib, f"waxvm_value_get_{kind}")(value, c.byref(number)), kind)
        return bool(number.value) if kind == "bool" else number.value


def take_bytes(handle):
    size = c.c_size_t()
    lib.waxvm_bytes_data.restype = c.c_void_p
    data = c.string_at(lib.waxvm_bytes_data(handle, c.byref(size)), size.value)
    lib.waxvm_bytes_close(handle)
    return data


def call(function, handle, name, arguments=b"", options=None):
    """waxvm_session_call or waxvm_pool_call: the status, and the bytes or the message."""
    result, error = c.c_void_p(), Error()
    code = function(handle, name, arguments, c.c_size_t(len(arguments)),
                    c.byref(options) if options else None, c.byref(result), c.byref(error))
    return (code, take_bytes(result)) if code == OK else (code, error.message.decode())


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


def open_session(host, name, options=None):
    program, session, error = c.c_void_p(), c.c_void_p(), Error()
    path = os.path.join(os.environ["WAXVM_GUEST_DIR"], name).encode()
    check(lib.waxvm_program_open_file(path, c.byref(program), c.byref(error)) == OK, error.message)
    code = lib.waxvm_session_open(host, program, c.byref(options) if options else None,
                                  c.byref(session), c.byref(error))
    check(code == OK, f"{name}: {code} {error.message.decode()}")
    lib.waxvm_program_close(program)
    return session


def check_session(host):
    @FUNCTION
    def greet(user_data, call, request, size):
        text = b"hello " + c.string_at(request, size)
        return lib.waxvm_call_reply(call, text, len(text))

    grants = c.c_void_p()
    check(lib.waxvm_grants_open(c.byref(grants), None) == OK, "grants_open")
    check(lib.waxvm_grants_add_function(grants, b"greet", greet, None, None, None) == OK, "add")
    session = open_session(host, "call_functions_musl", Options(grants=grants))
    lib.waxvm_grants_close(grants)
    seen = call(lib.waxvm_session_call, session, b"call_host", b"greet you")
    check(seen == (OK, b"hello you"), f"inside of a call: {seen}")
    value = {"list": [None, True, -(2**63), 2**64 - 1, 0.5, "\u20ac", b"\0\xff", [], {}], "": 1}
    made, message = c.c_void_p(Value.make(value)), c.c_void_p()
    check(lib.waxvm_value_encode(made, c.byref(message), None) == OK, "encode")
    lib.waxvm_value_close(made)
    code, echoed = call(lib.waxvm_session_call, session, b"echo", take_bytes(message))
    back = c.c_void_p()
    check(code == OK and lib.waxvm_value_decode(echoed, c.c_size_t(len(echoed)), c.byref(back),
                                                None) == OK, "decode")
    check(Value.read(back.value) == value, f"value: {Value.read(back.value)}")
    lib.waxvm_value_close(back)
    stop = c.c_void_p()
    check(lib.waxvm_stop_open(c.byref(stop), None) == OK, "stop_open")
    threading.Timer(0.1, lambda: lib.waxvm_stop_request(stop)).start()
    seen = call(lib.waxvm_session_call, session, b"spin", b"", CallOptions(stop=stop))
    check(seen[0] == CANCELLED, f"stopped: {seen}")
    lib.waxvm_stop_close(stop)
    lib.waxvm_session_close(session)


def check_pool(host):
    session = open_session(host, "call_functions_musl")
    snapshot, pool, error = c.c_void_p(), c.c_void_p(), Error()
    code = lib.waxvm_session_snapshot(session, c.byref(snapshot), c.byref(error))
    lib.waxvm_session_close(session)
    if code == UNIMPLEMENTED:
        return
    check(code == OK, error.message)
    check(lib.waxvm_pool_open(snapshot, None, c.byref(pool), c.byref(error)) == OK, error.message)
    lib.waxvm_snapshot_close(snapshot)
    seen = {}

    def work(name):
        seen[name] = [call(lib.waxvm_pool_call, pool, b"fault" if i == 50 else b"counter")
                      for i in range(100)]

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "ab":
        check(seen[name].count((OK, b"1")) == 99, f"a fresh state for each call: {seen[name]}")
        check(seen[name][50][0] == ABORTED, f"a fault: {seen[name][50]}")
    stats = PoolStats(struct_size=c.sizeof(PoolStats))
    check(lib.waxvm_pool_get_stats(pool, c.byref(stats), None) == OK, "stats")
    check((stats.calls, stats.replaced) == (200, 2), f"stats: {stats.calls} {stats.replaced}")
    lib.waxvm_pool_close(pool)


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
    check_session(host)
    check_pool(host)
    lib.waxvm_supervisor_close(host)
    print(f"waxvm {lib.waxvm_version().decode()} from Python under {sys.argv[2]}: ok")


main()
