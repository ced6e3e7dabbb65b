# waxvm_precompile(LIBRARY|TEST <targets>…)
#
# Where WAXVM_PRECOMPILE_HEADERS is ON, the targets share one precompiled header: the outside headers
# of the library, for tests GoogleTest's as well. Half of the time of a build that compiles
# everything is spent on these. TESTS leaves the library as its users compile it.
include_guard()

set(_waxvm_library_headers <algorithm> <array> <atomic> <chrono> <functional> <map> <memory>
    <optional> <string> <variant> <vector> <absl/status/statusor.h> <absl/strings/str_cat.h>
    <absl/strings/str_format.h>)

function(waxvm_precompile kind)
  if(kind STREQUAL "TEST" AND WAXVM_TESTS_UNOPTIMIZED)
    foreach(target IN LISTS ARGN)
      target_compile_options(${target} PRIVATE -O0)
    endforeach()
  endif()
  if(NOT WAXVM_PRECOMPILE_HEADERS OR (WAXVM_PRECOMPILE_HEADERS STREQUAL "TESTS" AND
                                      NOT kind STREQUAL "TEST"))
    return()
  endif()
  foreach(target IN LISTS ARGN)
    get_target_property(c_sources ${target} SOURCES)
    list(FILTER c_sources INCLUDE REGEX "\\.c$")
    set_source_files_properties(${c_sources} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    get_property(first GLOBAL PROPERTY waxvm_precompiled_${kind})
    if(first)
      target_precompile_headers(${target} REUSE_FROM ${first})
      continue()
    endif()
    set_property(GLOBAL PROPERTY waxvm_precompiled_${kind} ${target})
    set(headers ${_waxvm_library_headers})
    if(kind STREQUAL "TEST")
      list(APPEND headers <filesystem> <fstream> <thread> <gmock/gmock.h> <gtest/gtest.h>)
    endif()
    list(TRANSFORM headers REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:\\1>")
    target_precompile_headers(${target} PRIVATE ${headers})
  endforeach()
endfunction()
