// SPDX-License-Identifier: Apache-2.0

// Functions of a guest in Go, by the C face of the guests' library.
package main

/*
#cgo LDFLAGS: -lwaxvm_guest
#include <stdlib.h>
#include "waxvm/guest_value.h"

extern int answerCall(void* context, void* arguments, size_t bytes, struct waxvm_reply* reply);
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"unsafe"
)

type function func(arguments []byte, reply *C.struct_waxvm_reply) C.int

// By the C copy of their names, which is each one's context.
var functions = map[unsafe.Pointer]function{}

//export answerCall
func answerCall(context, arguments unsafe.Pointer, bytes C.size_t, reply *C.struct_waxvm_reply) (code C.int) {
	// No panic may get out.
	defer func() {
		if thrown := recover(); thrown != nil {
			code = fail(reply, C.WAXVM_CODE_INTERNAL, fmt.Sprint("the function panicked: ", thrown))
		}
	}()
	return functions[context](C.GoBytes(arguments, C.int(bytes)), reply)
}

func export(name string, body function) {
	context := unsafe.Pointer(C.CString(name))
	functions[context] = body
	if C.waxvm_export((*C.char)(context), C.waxvm_function(C.answerCall), context) != 0 {
		os.Exit(3)
	}
}

func write(reply *C.struct_waxvm_reply, text string) C.int {
	data := C.CBytes([]byte(text))
	defer C.free(data)
	return C.waxvm_reply_write(reply, data, C.size_t(len(text)))
}

func fail(reply *C.struct_waxvm_reply, code C.int, message string) C.int {
	text := C.CString(message)
	defer C.free(unsafe.Pointer(text))
	return C.waxvm_reply_error(reply, code, text)
}

// Bytes to bytes.
func sortWords(arguments []byte, reply *C.struct_waxvm_reply) C.int {
	words := strings.Split(string(arguments), " ")
	sort.Strings(words)
	return write(reply, strings.Join(words, " "))
}

// Calls a function of the host from inside of a call.
func greet(arguments []byte, reply *C.struct_waxvm_reply) C.int {
	var answer C.struct_waxvm_answer
	defer C.waxvm_answer_free(&answer)
	name := C.CString("greet")
	defer C.free(unsafe.Pointer(name))
	data := C.CBytes(arguments)
	defer C.free(data)
	code := C.waxvm_call(name, data, C.size_t(len(arguments)), &answer)
	got := C.GoBytes(unsafe.Pointer(answer.data), C.int(answer.bytes))
	if code < 0 {
		return fail(reply, C.WAXVM_CODE_INTERNAL, "no host")
	}
	if written := write(reply, string(got)); written != C.WAXVM_CODE_OK {
		return written
	}
	return code
}

// A list of numbers to {"sum": …, "count": …}.
func sum(arguments []byte, reply *C.struct_waxvm_reply) C.int {
	var list *C.struct_waxvm_value
	data := C.CBytes(arguments)
	defer C.free(data)
	if code := C.waxvm_value_decode(data, C.size_t(len(arguments)), &list); code != C.WAXVM_CODE_OK {
		return fail(reply, code, "the arguments are no value")
	}
	defer C.waxvm_value_free(list)
	var total C.int64_t
	count := C.waxvm_value_count(list)
	for i := C.size_t(0); i < count; i++ {
		var number C.int64_t
		if C.waxvm_value_get_int64(C.waxvm_value_at(list, i), &number) == 0 {
			return fail(reply, C.WAXVM_CODE_INVALID_ARGUMENT, "not a number")
		}
		total += number
	}
	made := C.waxvm_value_new_map()
	insert(made, "sum", C.waxvm_value_new_int64(total))
	insert(made, "count", C.waxvm_value_new_uint64(C.uint64_t(count)))
	return C.waxvm_reply_value(reply, made)
}

func insert(to *C.struct_waxvm_value, key string, value *C.struct_waxvm_value) {
	name := C.CString(key)
	defer C.free(unsafe.Pointer(name))
	C.waxvm_value_insert(to, name, C.size_t(len(key)), value)
}

// Goroutines, garbage, and a count that is state of the program.
var calls int

func work(arguments []byte, reply *C.struct_waxvm_reply) C.int {
	calls++
	var all sync.WaitGroup
	var lock sync.Mutex
	bytes := 0
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			garbage := make([][]byte, 0)
			for j := 0; j < 16; j++ {
				garbage = append(garbage, make([]byte, 4096*(n+1)))
			}
			lock.Lock()
			bytes += len(garbage) * len(garbage[0])
			lock.Unlock()
		}(i)
	}
	all.Wait()
	runtime.GC()
	return write(reply, fmt.Sprint(calls, " ", bytes))
}

func main() {
	export("sort", sortWords)
	export("greet", greet)
	export("sum", sum)
	export("work", work)
	export("panic", func([]byte, *C.struct_waxvm_reply) C.int { panic("on purpose") })
	if C.waxvm_serve_calls() != 0 {
		os.Exit(1)
	}
}
