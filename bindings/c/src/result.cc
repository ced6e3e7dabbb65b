// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "support.h"

static_assert(WAXVM_OUTCOME_EXITED == static_cast<int>(waxvm::Outcome::kExited));
static_assert(WAXVM_OUTCOME_FAULT == static_cast<int>(waxvm::Outcome::kFault));
static_assert(WAXVM_OUTCOME_LIMIT == static_cast<int>(waxvm::Outcome::kLimit));
static_assert(WAXVM_OUTCOME_STOPPED == static_cast<int>(waxvm::Outcome::kStopped));

namespace {

const char* Text(const std::string* text, size_t* byte_count) {
  if (byte_count != nullptr) *byte_count = text != nullptr ? text->size() : 0;
  return text != nullptr ? text->c_str() : nullptr;
}

}  // namespace

namespace waxvm::c {
waxvm_result* NewResult(RunResult done) {
  std::string json = ReportToJson(done);
  return new waxvm_result{std::move(done), std::move(json)};
}

}  // namespace waxvm::c

extern "C" {

int waxvm_result_outcome(const waxvm_result* result) {
  return result != nullptr ? static_cast<int>(result->result.outcome) : -1;
}

int waxvm_result_exit_code(const waxvm_result* result) {
  return result != nullptr ? result->result.exit_code : -1;
}

// Limit and fault names are literals of the library: terminated, and never freed.
const char* waxvm_result_limit(const waxvm_result* result) {
  if (result == nullptr || !result->result.limit) return nullptr;
  return waxvm::LimitName(*result->result.limit).data();
}

const char* waxvm_result_fault(const waxvm_result* result) {
  if (result == nullptr || !result->result.fault) return nullptr;
  return waxvm::FaultName(result->result.fault->kind).data();
}

const char* waxvm_result_output(const waxvm_result* result, size_t* byte_count) {
  return Text(result != nullptr ? &result->result.output : nullptr, byte_count);
}

const char* waxvm_result_error_output(const waxvm_result* result, size_t* byte_count) {
  return Text(result != nullptr ? &result->result.error_output : nullptr, byte_count);
}

const char* waxvm_result_report_json(const waxvm_result* result) {
  return Text(result != nullptr ? &result->report_json : nullptr, nullptr);
}

void waxvm_result_close(waxvm_result* result) { delete result; }

}  // extern "C"
