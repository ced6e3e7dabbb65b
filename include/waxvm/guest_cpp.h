// SPDX-License-Identifier: Apache-2.0
// The C++ face of waxvm/guest.h: functions of the guest are lambdas over bytes.
#ifndef WAXVM_GUEST_CPP_H_
#define WAXVM_GUEST_CPP_H_

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "waxvm/guest.h"
#include "waxvm/guest_value.h"

namespace waxvm::guest {

/// How a function fails, with one of enum waxvm_code. A negated errno is of the library's side.
struct Error {
  int code = WAXVM_CODE_UNKNOWN;
  std::string message = {};
};

/// A typed value of waxvm/guest_value.h, freed with the object.
struct FreeValue {
  void operator()(waxvm_value* value) const { waxvm_value_free(value); }
};
using Value = std::unique_ptr<waxvm_value, FreeValue>;

/// The value in the arguments of a call; null where they are none.
inline Value DecodeValue(std::string_view message) {
  waxvm_value* value = nullptr;
  (void)waxvm_value_decode(message.data(), message.size(), &value);
  return Value(value);
}

/// Bytes, or why there are none.
using Result = std::variant<std::string, Error>;

namespace internal {

inline int Answer(waxvm_reply* reply, const Error& error) {
  const bool is_code = error.code > WAXVM_CODE_OK && error.code <= WAXVM_CODE_UNAUTHENTICATED;
  return waxvm_reply_error(reply, is_code ? error.code : WAXVM_CODE_INTERNAL,
                           error.message.c_str());
}
inline int Answer(waxvm_reply* reply, std::string_view bytes) {
  return waxvm_reply_write(reply, bytes.data(), bytes.size());
}
inline int Answer(waxvm_reply* reply, Value value) {
  return waxvm_reply_value(reply, value.release());
}
inline int Answer(waxvm_reply* reply, const Result& result) {
  if (const Error* error = std::get_if<Error>(&result)) return Answer(reply, *error);
  return Answer(reply, std::string_view(std::get<std::string>(result)));
}

template <typename Function>
int Invoke(Function& function, std::string_view arguments, waxvm_reply* reply) {
  using Returned = std::invoke_result_t<Function&, std::string_view>;
  if constexpr (std::is_void_v<Returned>) {
    function(arguments);
    return WAXVM_CODE_OK;
  } else if constexpr (std::is_convertible_v<Returned, std::string_view>) {
    const Returned bytes = function(arguments);
    return Answer(reply, std::string_view(bytes));
  } else {
    return Answer(reply, function(arguments));
  }
}

template <typename Function>
int Trampoline(void* context, const void* arguments, std::size_t bytes, waxvm_reply* reply) {
  const std::string_view view(static_cast<const char*>(arguments), bytes);
#if defined(__cpp_exceptions)
  try {
    return Invoke(*static_cast<Function*>(context), view, reply);
  } catch (const std::exception& thrown) {
    return waxvm_reply_error(reply, WAXVM_CODE_INTERNAL, thrown.what());
  } catch (...) {
    return waxvm_reply_error(reply, WAXVM_CODE_INTERNAL, "the function threw an exception");
  }
#else
  return Invoke(*static_cast<Function*>(context), view, reply);
#endif
}

}  // namespace internal

/// Offers `function`, called with the arguments as a std::string_view, under `name` for as long as
/// the program runs. It returns std::string, anything that converts to std::string_view, Value,
/// Result, Error or nothing; an exception is an error of code 13 with its text. Returns as
/// waxvm_export.
template <typename Function>
int Export(const char* name, Function function) {
  auto* const kept = new Function(std::move(function));
  const int result = waxvm_export(name, &internal::Trampoline<Function>, kept);
  if (result != 0) delete kept;
  return result;
}

/// Answers calls until the host has no more. Returns as waxvm_serve_calls.
inline int ServeCalls() { return waxvm_serve_calls(); }

/// Calls a function that the host granted.
inline Result Call(const char* name, std::string_view request) {
  waxvm_answer answer = {};
  const int code = waxvm_call(name, request.data(), request.size(), &answer);
  std::string bytes(reinterpret_cast<const char*>(answer.data), answer.bytes);
  waxvm_answer_free(&answer);
  if (code != WAXVM_CODE_OK) return Error{code, std::move(bytes)};
  return bytes;
}

inline void Log(std::string_view text) { waxvm_log(text.data(), text.size()); }
inline void Yield() { waxvm_yield(); }

}  // namespace waxvm::guest

#endif  // WAXVM_GUEST_CPP_H_
