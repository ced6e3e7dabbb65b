// SPDX-License-Identifier: Apache-2.0
// Functions of a guest in Rust, by the C face of the guests' library.
use std::ffi::{c_char, c_int, c_void, CStr};
use std::panic;

#[repr(C)]
pub struct Reply([u8; 0]);
type Function = extern "C" fn(*mut c_void, *const c_void, usize, *mut Reply) -> c_int;

#[repr(C)]
pub struct Value([u8; 0]);

#[repr(C)]
struct Answer {
    data: *mut u8,
    bytes: usize,
    capacity: usize,
}

#[link(name = "waxvm_guest", kind = "static")]
extern "C" {
    fn waxvm_export(name: *const c_char, function: Function, context: *mut c_void) -> c_int;
    fn waxvm_reply_write(reply: *mut Reply, data: *const c_void, bytes: usize) -> c_int;
    fn waxvm_reply_error(reply: *mut Reply, code: c_int, message: *const c_char) -> c_int;
    fn waxvm_call(name: *const c_char, data: *const c_void, bytes: usize, answer: *mut Answer) -> c_int;
    fn waxvm_answer_free(answer: *mut Answer);
    fn waxvm_serve_calls() -> c_int;
    fn waxvm_value_decode(message: *const c_void, bytes: usize, value: *mut *mut Value) -> c_int;
    fn waxvm_value_free(value: *mut Value);
    fn waxvm_value_count(value: *const Value) -> usize;
    fn waxvm_value_at(value: *const Value, index: usize) -> *const Value;
    fn waxvm_value_get_int64(value: *const Value, to: *mut i64) -> c_int;
    fn waxvm_value_new_map() -> *mut Value;
    fn waxvm_value_new_int64(value: i64) -> *mut Value;
    fn waxvm_value_new_uint64(value: u64) -> *mut Value;
    fn waxvm_value_insert(map: *mut Value, key: *const u8, bytes: usize, item: *mut Value) -> c_int;
    fn waxvm_reply_value(reply: *mut Reply, value: *mut Value) -> c_int;
}

const INVALID_ARGUMENT: c_int = 3;
const INTERNAL: c_int = 13;

fn text(value: &'static [u8]) -> *const c_char {
    CStr::from_bytes_with_nul(value).unwrap().as_ptr()
}

/// Runs `body` on the arguments; no panic gets out.
fn answer(
    arguments: *const c_void,
    bytes: usize,
    reply: *mut Reply,
    body: impl FnOnce(&[u8]) -> Vec<u8> + panic::UnwindSafe,
) -> c_int {
    let given = unsafe { std::slice::from_raw_parts(arguments as *const u8, bytes) };
    match panic::catch_unwind(|| body(given)) {
        Ok(out) => unsafe { waxvm_reply_write(reply, out.as_ptr() as *const c_void, out.len()) },
        Err(_) => unsafe { waxvm_reply_error(reply, INTERNAL, text(b"the function panicked\0")) },
    }
}

extern "C" fn sort(_: *mut c_void, arguments: *const c_void, bytes: usize, reply: *mut Reply) -> c_int {
    answer(arguments, bytes, reply, |given| {
        let mut words: Vec<&str> = std::str::from_utf8(given).unwrap().split(' ').collect();
        words.sort();
        words.join(" ").into_bytes()
    })
}

extern "C" fn greet(_: *mut c_void, arguments: *const c_void, bytes: usize, reply: *mut Reply) -> c_int {
    let mut got = Answer { data: std::ptr::null_mut(), bytes: 0, capacity: 0 };
    unsafe {
        let code = waxvm_call(text(b"greet\0"), arguments, bytes, &mut got);
        if code < 0 {
            return waxvm_reply_error(reply, INTERNAL, text(b"no host\0"));
        }
        waxvm_reply_write(reply, got.data as *const c_void, got.bytes);
        waxvm_answer_free(&mut got);
        code
    }
}

/// A list of numbers to {"sum": …, "count": …}.
extern "C" fn sum(_: *mut c_void, arguments: *const c_void, bytes: usize, reply: *mut Reply) -> c_int {
    unsafe {
        let mut list = std::ptr::null_mut();
        let code = waxvm_value_decode(arguments, bytes, &mut list);
        if code != 0 {
            return waxvm_reply_error(reply, code, text(b"the arguments are no value\0"));
        }
        let (mut total, count) = (0, waxvm_value_count(list));
        for i in 0..count {
            let mut number = 0;
            if waxvm_value_get_int64(waxvm_value_at(list, i), &mut number) == 0 {
                waxvm_value_free(list);
                return waxvm_reply_error(reply, INVALID_ARGUMENT, text(b"not a number\0"));
            }
            total += number;
        }
        waxvm_value_free(list);
        let made = waxvm_value_new_map();
        waxvm_value_insert(made, b"sum".as_ptr(), 3, waxvm_value_new_int64(total));
        waxvm_value_insert(made, b"count".as_ptr(), 5, waxvm_value_new_uint64(count as u64));
        waxvm_reply_value(reply, made)
    }
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    unsafe {
        waxvm_export(text(b"sort\0"), sort, std::ptr::null_mut());
        waxvm_export(text(b"greet\0"), greet, std::ptr::null_mut());
        waxvm_export(text(b"sum\0"), sum, std::ptr::null_mut());
        std::process::exit(if waxvm_serve_calls() == 0 { 0 } else { 1 });
    }
}
